"""OLMo Hybrid against ``transformers``: norms before and after, with and without positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": None},
            "num_key_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 12,
            "linear_allow_neg_eigval": False,
            "attention_bias": True,
            "rms_norm_eps": 0.01,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import OlmoHybridConfig

    same(OlmoHybridConfig(**TINY, **changes))
