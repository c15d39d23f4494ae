"""LFM2 against ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.importers.huggingface import read
from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 84,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "conv", "full_attention", "conv"],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"block_multiple_of": 16},
        {"conv_bias": True, "tie_word_embeddings": False, "conv_L_cache": 4, "norm_eps": 0.01},
        {"block_auto_adjust_ff_dim": False, "intermediate_size": 56},
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import Lfm2Config

    same(Lfm2Config(**{**TINY, **changes}))


def test_older_configs_number_the_layers_that_attend() -> None:
    content = {
        "model_type": "lfm2",
        "num_hidden_layers": 3,
        "full_attn_idxs": [1],
        "block_ff_dim": 3072,
        "tie_embedding": False,
        "use_pos_enc": True,
    }
    nodes = read(content).architecture.nodes
    mixers = [node.use for node in nodes[1:-2:2]]
    assert mixers == ["short_conv", "attention", "short_conv"]
    assert nodes[2].params == {"ratio": 2048 / 2560} and "tied" not in nodes[-1].params
