"""Kimi Linear against ``transformers``: both kinds of layers, experts in groups, and fields as files name them."""

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
    "moe_intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "q_lora_rank": 12,
            "attention_bias": True,
            "n_group": 2,
            "topk_group": 1,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "mlp_layer_types": ["sparse", "dense"],
            "rms_norm_eps": 1e-3,
        },
    ],
)
def test_the_same_as_theirs(same: Callable[..., GraphModel], changes: dict[str, Any]) -> None:
    from transformers import KimiLinearConfig

    same(KimiLinearConfig(**TINY, **changes))


def test_layers_are_numbered_as_published() -> None:
    content = {
        "model_type": "kimi_linear",
        "num_hidden_layers": 3,
        "first_k_dense_replace": 2,
        "num_experts": 16,
        "linear_attn_config": {
            "full_attn_layers": [2],
            "kda_layers": [1, 3],
            "head_dim": 64,
            "num_heads": 8,
            "short_conv_kernel_size": 3,
        },
    }
    nodes = read(content).architecture.nodes[1:-2]
    assert [node.use for node in nodes[::2]] == [
        "kimi_delta_attention",
        "latent_attention",
        "kimi_delta_attention",
    ]
    assert [node.use for node in nodes[1::2]] == ["swiglu", "swiglu", "moe"]
    assert nodes[-1].params["experts"] == 16
    assert nodes[0].params == {"heads": 8, "key_dim": 64, "value_dim": 64, "conv": 3, "eps": 1e-5}
