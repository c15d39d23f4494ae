"""Mamba against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "state_size": 6,
            "conv_kernel": 3,
            "expand": 3,
            "time_step_rank": 5,
            "use_bias": True,
            "use_conv_bias": False,
            "layer_norm_epsilon": 1e-3,
            "tie_word_embeddings": False,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import MambaConfig

    same(MambaConfig(**TINY, **changes))
