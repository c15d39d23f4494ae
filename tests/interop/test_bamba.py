"""Bamba against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel
from tests.interop.conftest import has_params

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_n_heads": 4,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 2},
        pytest.param(
            {"num_hidden_layers": 5, "attn_layer_indices": [1, 3]},
            marks=has_params("attention", "rotary_share"),
        ),
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import BambaConfig

    same(BambaConfig(**TINY, **changes))
