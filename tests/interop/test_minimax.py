"""MiniMax against ``transformers``: decays by layer, and what is added weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 3,
    "block_size": 16,
}
FACTORS = {
    "full_attn_alpha_factor": 3.5,
    "linear_attn_alpha_factor": 2.5,
    "mlp_alpha_factor": 1.5,
    "full_attn_beta_factor": 0.5,
    "linear_attn_beta_factor": 0.75,
    "mlp_beta_factor": 1.25,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 3},
        {
            **FACTORS,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "head_dim": 6,
            "sliding_window": 5,
            "tie_word_embeddings": True,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import MiniMaxConfig

    same(MiniMaxConfig(**TINY, **changes))
