"""Mamba-2 against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel
from tests.interop.conftest import has_params

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "head_dim": 16,
    "state_size": 8,
    "chunk_size": 16,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"n_groups": 1},
        {"n_groups": 1, "tie_word_embeddings": True},
        pytest.param({"n_groups": 2}, marks=has_params("mamba2", "norm_groups")),
        pytest.param({"n_groups": 1, "use_bias": True}, marks=has_params("mamba2", "bias")),
        pytest.param(
            {"n_groups": 1, "use_conv_bias": False}, marks=has_params("mamba2", "conv_bias")
        ),
        pytest.param(
            {"n_groups": 1, "layer_norm_epsilon": 0.01}, marks=has_params("mamba2", "eps")
        ),
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import Mamba2Config

    same(Mamba2Config(**TINY, **changes))
