"""Qwen3-Next against ``transformers``: layers of each kind, experts and layers without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture.importers.huggingface import read
from hybridlab.architecture.model import GraphModel

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "layer_types": ["linear_attention", "full_attention"],
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "attention_bias": True,
            "norm_topk_prob": False,
            "mlp_only_layers": [1],
            "tie_word_embeddings": True,
            "rms_norm_eps": 0.01,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import Qwen3NextConfig

    same(Qwen3NextConfig(**TINY, **changes))


def test_attention_comes_at_intervals() -> None:
    content = {"model_type": "qwen3_next", "num_hidden_layers": 4, "full_attention_interval": 2}
    (group,) = [node for node in read(content).architecture.nodes if node.is_group]
    assert group.repeat == 2
    assert [node.use for node in group.nodes] == ["gated_delta_net", "moe", "attention", "moe"]
