"""Granite 4 against ``transformers``: experts beside a shared layer, and every multiplier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel
from tests.interop.conftest import has_params

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 40,
    "shared_intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_n_heads": 4,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "rms_norm_eps": 1e-5,
    "layer_types": ["mamba", "mamba", "attention", "mamba"],
    "num_local_experts": 3,
}
FACTORS = {
    "embedding_multiplier": 12.0,
    "logits_scaling": 8.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.0156,
}


@pytest.mark.parametrize(
    "changes",
    [
        FACTORS,
        {**FACTORS, "num_local_experts": 0, "tie_word_embeddings": True},
        {"position_embedding_type": "rope"},
        pytest.param({"rms_norm_eps": 1e-6}, marks=has_params("mamba2", "eps")),
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import GraniteMoeHybridConfig

    same(GraniteMoeHybridConfig(**{**TINY, **changes}))
