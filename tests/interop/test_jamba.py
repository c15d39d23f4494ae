"""Jamba against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "attn_layer_period": 4,
    "attn_layer_offset": 1,
    "mamba_d_state": 6,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "num_hidden_layers": 2,
            "num_experts_per_tok": 1,
            "expert_layer_period": 1,
            "expert_layer_offset": 0,
            "mamba_dt_rank": 5,
            "mamba_d_conv": 3,
            "mamba_conv_bias": False,
            "mamba_proj_bias": True,
            "rms_norm_eps": 1e-3,
            "tie_word_embeddings": True,
        },
        {"num_experts": 1, "num_hidden_layers": 2},
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import JambaConfig

    same(JambaConfig(**TINY | changes))
