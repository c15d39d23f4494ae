"""Attention of published models, as transformers has it, is attention here with the same weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence

Weights = dict[str, Tensor]

WIDTH, LENGTH = 32, 40
SIZES = {"hidden_size": WIDTH, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}


def theirs(
    family: str, prefix: str, config: dict[str, Any], window: int | None = None
) -> tuple[Weights, Tensor, Tensor]:
    """Return the random weights, an input and the output of a family's attention."""
    configuration = importlib.import_module(f"transformers.models.{family}.configuration_{family}")
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    settings = getattr(configuration, f"{prefix}Config")(**config)
    settings._attn_implementation = "eager"
    module = getattr(modeling, f"{prefix}Attention")(settings, layer_idx=0).eval()
    for key, weight in module.named_parameters():
        spread = 0.3 if "norm" in key else 1 / math.sqrt(weight.shape[-1])
        nn.init.normal_(weight, mean=float("norm" in key), std=spread)
    x = torch.randn(2, LENGTH, WIDTH)
    place = torch.arange(LENGTH)
    distance = place[:, None] - place
    hidden = (distance < 0) | (distance >= (window or LENGTH))
    given: dict[str, Any] = {}
    if hasattr(modeling, f"{prefix}RotaryEmbedding"):
        rotary = getattr(modeling, f"{prefix}RotaryEmbedding")(settings)
        given["position_embeddings"] = rotary(x, place[None])
    if family == "mpt":
        given["position_bias"] = modeling.build_mpt_alibi_tensor(settings.n_heads, LENGTH)
        given["attention_mask"] = hidden
    else:
        given["attention_mask"] = torch.zeros(1, 1, LENGTH, LENGTH).masked_fill(hidden, -math.inf)
    with torch.no_grad():
        output = module(x, **given)[0]
    return module.state_dict(), x, output


def ours(name: str, params: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    """Return the output of a component with these weights, at once and one position at a time."""
    cls = palette()[name].cls
    context = BuildContext((sequence(WIDTH),), WIDTH)
    checked = cls.Params(**params)
    assert list(cls.check(checked, context)) == []
    module = cls(checked, context)
    module.load_state_dict(weights)
    with torch.no_grad():
        output, state = module(x), module.start(2)
        for t in range(LENGTH):
            row, state = module.step(state, x[:, t])
            torch.testing.assert_close(row, output[:, t], rtol=1e-4, atol=1e-4)
    return output


def separate(weights: Weights) -> Weights:
    """Join the maps of queries, keys and values of the families after Llama."""
    renamed = {"project_out.weight": weights["o_proj.weight"]}
    for kind in ("weight", "bias"):
        if f"q_proj.{kind}" in weights:
            parts = [weights[f"{which}_proj.{kind}"] for which in "qkv"]
            renamed[f"project_in.{kind}"] = torch.cat(parts)
    for given, name in (
        ("o_proj.bias", "project_out.bias"),
        ("q_norm.weight", "query_norm.scale"),
        ("k_norm.weight", "key_norm.scale"),
        ("sinks", "sinks"),
    ):
        if given in weights:
            renamed[name] = weights[given]
    return renamed


def neox(weights: Weights) -> Weights:
    """Sort what GPT-NeoX keeps head by head into queries, keys and values."""
    sorted_ = {
        f"project_in.{kind}": weights[f"query_key_value.{kind}"]
        .unflatten(0, (4, 3, 8))
        .transpose(0, 1)
        .flatten(0, 2)
        for kind in ("weight", "bias")
    }
    out = {f"project_out.{kind}": weights[f"dense.{kind}"] for kind in ("weight", "bias")}
    return sorted_ | out


def gated(weights: Weights) -> Weights:
    """Take Qwen3-Next's gate out of its map of queries, and add the one to its norms' scales."""
    both = weights["q_proj.weight"].unflatten(0, (4, 2, 8))
    renamed = separate({**weights, "q_proj.weight": both[:, 0].flatten(0, 1)})
    renamed["output_gate.weight"] = both[:, 1].flatten(0, 1)
    for name in ("query_norm.scale", "key_norm.scale"):
        renamed[name] = 1 + renamed[name]
    return renamed


def mpt(weights: Weights) -> Weights:
    return {
        "project_in.weight": weights["Wqkv.weight"],
        "project_out.weight": weights["out_proj.weight"],
    }


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 150.0,
    "factor": 4.0,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 64,
}
OUR_YARN = {
    "rotary_scaling": "yarn",
    "rotary_base": 150.0,
    "rotary_factor": 4.0,
    "rotary_fast": 8.0,
    "rotary_trained": 64,
}

FAMILIES: list[tuple[str, str, dict[str, Any], dict[str, Any], Callable[[Weights], Weights]]] = [
    ("llama", "Llama", {"num_key_value_heads": 2}, {"kv_heads": 2}, separate),
    (
        "llama",
        "Llama",
        {"rope_parameters": LLAMA3, "attention_bias": True},
        {
            "rotary_scaling": "llama3",
            "rotary_base": 500.0,
            "rotary_factor": 4.0,
            "rotary_trained": 32,
            "bias": True,
            "out_bias": True,
        },
        separate,
    ),
    (
        "llama",
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}},
        {"rotary_scaling": "linear", "rotary_base": 500.0, "rotary_factor": 3.0},
        separate,
    ),
    (
        "mistral",
        "Mistral",
        {"num_key_value_heads": 2, "sliding_window": 7},
        {"kv_heads": 2, "window": 7},
        separate,
    ),
    (
        "gpt_neox",
        "GPTNeoX",
        {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.25}},
        {"rotary_base": 500.0, "rotary_share": 0.25, "bias": True, "out_bias": True},
        neox,
    ),
    (
        "qwen3",
        "Qwen3",
        {**GROUPED, "head_dim": 12, "rms_norm_eps": 1e-3},
        {"kv_heads": 2, "head_dim": 12, "qk_norm": True, "norm_eps": 1e-3},
        separate,
    ),
    (
        "olmo2",
        "Olmo2",
        {"num_key_value_heads": 2, "rms_norm_eps": 1e-5},
        {"kv_heads": 2, "qk_norm": True, "qk_norm_over": "all", "norm_eps": 1e-5},
        separate,
    ),
    (
        "gpt_oss",
        "GptOss",
        {
            **GROUPED,
            "sliding_window": 9,
            "layer_types": ["sliding_attention"] * 2,
            "num_hidden_layers": 2,
            "rope_parameters": {**YARN, "truncate": False},
        },
        {
            **OUR_YARN,
            "rotary_scaling": "yarn_exact",
            "kv_heads": 2,
            "window": 9,
            "sinks": True,
            "bias": True,
            "out_bias": True,
        },
        separate,
    ),
    (
        "gemma2",
        "Gemma2",
        {
            **GROUPED,
            "attn_logit_softcapping": 1.5,
            "query_pre_attn_scalar": 5,
            "sliding_window": 7,
            "layer_types": ["sliding_attention"] * 2,
            "num_hidden_layers": 2,
        },
        {"kv_heads": 2, "soft_cap": 1.5, "scale": 5**-0.5, "window": 7},
        separate,
    ),
    (
        "qwen3_next",
        "Qwen3Next",
        {**GROUPED, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5}},
        {
            "kv_heads": 2,
            "rotary_base": 500.0,
            "rotary_share": 0.5,
            "qk_norm": True,
            "output_gate": True,
        },
        gated,
    ),
    ("mpt", "Mpt", {"d_model": WIDTH, "n_heads": 4}, {"rotary": False, "alibi": True}, mpt),
]


@pytest.mark.parametrize(
    ("family", "prefix", "config", "params", "rename"), FAMILIES, ids=lambda x: str(x)[:20]
)
def test_attention(
    family: str,
    prefix: str,
    config: dict[str, Any],
    params: dict[str, Any],
    rename: Callable[[Weights], Weights],
) -> None:
    sizes = {} if family == "mpt" else SIZES
    window = params.get("window")
    weights, x, want = theirs(family, prefix, {**sizes, **config}, window)
    got = ours("attention", params, rename(weights), x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def latent(weights: Weights) -> Weights:
    """Rename the weights of multi-head latent attention."""
    names = {
        "q_proj": "query",
        "q_a_proj": "query.0",
        "q_a_layernorm": "query.1",
        "q_b_proj": "query.2",
        "kv_a_proj_with_mqa": "latent_down",
        "kv_a_layernorm": "latent_norm",
        "kv_b_proj": "latent_up",
        "o_proj": "project_out",
    }
    renamed = {}
    for key, weight in weights.items():
        module, kind = key.rsplit(".", 1)
        renamed[f"{names[module]}.{'scale' if 'norm' in module else kind}"] = weight
    return renamed


MLA = {
    **SIZES,
    "num_key_value_heads": 4,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 8,
    "v_head_dim": 5,
}
OUR_MLA = {"heads": 4, "kv_rank": 10, "nope_dim": 6, "rope_dim": 8, "value_dim": 5}


@pytest.mark.parametrize(
    ("family", "prefix", "config", "params"),
    [
        ("deepseek_v3", "DeepseekV3", {"q_lora_rank": 9}, {"query_rank": 9}),
        (
            "deepseek_v3",
            "DeepseekV3",
            {"q_lora_rank": 9, "rope_interleave": False, "attention_bias": True},
            {"query_rank": 9, "rotary_pairs": False, "bias": True},
        ),
        (
            "deepseek_v3",
            "DeepseekV3",
            {
                "q_lora_rank": None,
                "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0},
            },
            {
                **OUR_YARN,
                "rotary_magnitude": (1 + 0.07 * math.log(4)) / (1 + 0.1 * math.log(4)),
                "scale": 14**-0.5 * (1 + 0.1 * math.log(4)) ** 2,
            },
        ),
        ("kimi_linear", "KimiLinear", {"q_lora_rank": None}, {"rotary": False}),
    ],
    ids=lambda x: str(x)[:20],
)
def test_latent_attention(
    family: str, prefix: str, config: dict[str, Any], params: dict[str, Any]
) -> None:
    weights, x, want = theirs(family, prefix, {**MLA, **config})
    got = ours("latent_attention", {**OUR_MLA, **params}, latent(weights), x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_differential_attention() -> None:
    config = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    weights, x, want = theirs("diffllama", "DiffLlama", config)
    renamed = separate(weights) | {key: weights[key] for key in weights if "lambda" in key}
    renamed["norm.scale"] = torch.ones(16)
    params = {"heads": 2, "kv_heads": 1, "lambda_start": 0.8 - 0.6}
    got = ours("differential_attention", params, renamed, x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
