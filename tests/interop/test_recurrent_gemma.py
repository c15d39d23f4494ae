"""RecurrentGemma against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "attention_window_size": 9,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 1},
        {
            "num_hidden_layers": 4,
            "block_types": ["attention", "recurrent"],
            "lru_width": 24,
            "conv1d_width": 3,
            "attention_bias": True,
            "logits_soft_cap": 2.0,
            "tie_word_embeddings": False,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import RecurrentGemmaConfig

    same(RecurrentGemmaConfig(**TINY | changes))
