"""Llama against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel
from tests.interop.conftest import has_params

Same = Callable[..., GraphModel]
TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 0.01},
        {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        pytest.param({"attention_bias": True}, marks=has_params("attention", "bias", "out_bias")),
    ],
)
def test_the_same_as_theirs(same: Same, changes: dict[str, Any]) -> None:
    from transformers import LlamaConfig

    model = same(LlamaConfig(**TINY, **changes))
    (group,) = [node for node in model.architecture.nodes if node.is_group]
    assert group.repeat == 3 and [node.use for node in group.nodes] == ["attention", "swiglu"]
