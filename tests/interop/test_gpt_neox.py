"""GPT-NeoX against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel
from tests.interop.conftest import has_params

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
WHOLE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
}


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": False, **WHOLE},
        {"attention_bias": False, **WHOLE, "use_parallel_residual": False},
        pytest.param({}, marks=has_params("attention", "bias", "out_bias", "rotary_share")),
        pytest.param(
            {"use_parallel_residual": False, "tie_word_embeddings": True},
            marks=has_params("attention", "bias", "out_bias", "rotary_share"),
        ),
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import GPTNeoXConfig

    model = same(GPTNeoXConfig(**TINY, **changes))
    (group,) = [node for node in model.architecture.nodes if node.is_group]
    assert group.repeat == 3
