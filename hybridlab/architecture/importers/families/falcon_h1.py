"""Falcon-H1: Mamba-2 and attention side by side; multipliers on all maps. https://arxiv.org/abs/2507.22448."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    attention,
    embedding,
    final,
    mamba2,
    norm_weights,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import Take
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 128000,
    "tie_word_embeddings": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "attention_dropout": 0.0,
    "mamba_d_ssm": 1024,
    "mamba_n_heads": 128,
    "mamba_d_head": "auto",
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "mamba_norm_before_gate": True,
    "mamba_rms_norm": False,
    "time_step_limit": (0.0, math.inf),
    "projectors_bias": False,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "lm_head_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "mlp_multipliers": None,
    "key_multiplier": 1.0,
    "attention_out_multiplier": 1.0,
    "attention_in_multiplier": 1.0,
    "ssm_multipliers": None,
    "ssm_in_multiplier": 1.0,
    "ssm_out_multiplier": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
}
HARMLESS = {"mamba_use_mlp", "mlp_expansion_factor"}


@family(
    "falcon_h1", source="https://arxiv.org/abs/2507.22448", defaults=DEFAULTS, harmless=HARMLESS
)
def falcon_h1(config: Fields) -> Draft:
    """Read Mamba-2 beside attention, then a gated feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(
        config.whole("hidden_size"),
        "rms_norm",
        eps,
        unused=("*.rotary_emb.inv_freq", "*.mup_vector"),
    )
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    config.passed("layers_block_type", "layer_types")  # every layer has both
    config.only("attn_layer_indices", None)
    draft.before = [
        embedding(
            config,
            "model.embed_tokens.weight",
            tied=shared,
            scale=config.number("embedding_multiplier"),
        )
    ]
    none = Residual.NONE
    for layer in range(config.whole("num_hidden_layers")):
        at = f"model.layers.{layer}."
        heads, state = _attention(config, f"{at}self_attn."), _mamba2(config, f"{at}mamba.", eps)
        both = Part(
            id="mixers",
            residual=Residual.PRE,
            weights=norm_weights(f"{at}input_layernorm"),
            parts=(
                replace(state, id="mamba2", inputs=(INPUT,), residual=none),
                replace(heads, id="attention", inputs=(INPUT,), residual=none),
                Part("sum", id="join", inputs=("mamba2", "attention")),
            ),
        )
        draft.layers.append([both, _feed_forward(config, at)])
    draft.after = final(
        config,
        "rms_norm",
        "model.final_layernorm",
        eps,
        tied=shared,
        scale=config.number("lm_head_multiplier"),
    )
    return draft


def _attention(config: Fields, at: str) -> Part:
    """Return attention; the factor on keys is one on scores, that on the input one on the maps in."""
    heads = config.whole("num_attention_heads")
    size = config.maybe_whole("head_dim") or config.whole("hidden_size") // heads
    part = attention(
        config,
        at,
        {},
        positions=rotary(config),
        bias=config.flag("attention_bias"),
        score_scale=config.number("key_multiplier") / math.sqrt(size),
        out_scale=config.number("attention_out_multiplier"),
    )
    name = "body.project_in.weight"
    scaled = part.weights[name].scaled(config.number("attention_in_multiplier"))
    return replace(part, weights=part.weights | {name: scaled})


def _mamba2(config: Fields, at: str, eps: float) -> Part:
    """Return a Mamba-2 block with a factor on the input and one on each part of the map in."""
    heads, expand = config.whole("mamba_n_heads"), config.whole("mamba_expand")
    groups, state = config.whole("mamba_n_groups"), config.whole("mamba_d_state")
    inner = config.maybe_whole("mamba_d_ssm") or expand * config.whole("hidden_size")
    size = inner // heads
    if config.raw("mamba_d_head") not in ("auto", None):
        size = config.whole("mamba_d_head")
    bias = config.flag("mamba_proj_bias")
    config.only("projectors_bias", bias, because="only both maps or none can have a bias")
    place = "before_gate" if config.flag("mamba_norm_before_gate") else "after_gate"
    part = mamba2(
        config,
        at,
        {},
        heads=heads,
        head_dim=size,
        state=state,
        groups=groups,
        expand=expand,
        conv=config.whole("mamba_d_conv"),
        chunk=config.whole("mamba_chunk_size", least=2),
        eps=eps,
        bias=bias,
        conv_bias=config.flag("mamba_conv_bias"),
        gate_norm=place if config.flag("mamba_rms_norm") else "none",
        out_scale=config.number("ssm_out_multiplier"),
    )
    factors = _factors(config, "ssm_multipliers", 5)
    rows = (heads * size, heads * size, groups * state, groups * state, heads)
    weights = part.weights | _stretched(part, "project_in.weight", factors, rows)
    if bias:
        weights |= _stretched(part, "project_in.bias", factors, rows)
    name = "body.project_in.weight"
    weights[name] = weights[name].scaled(config.number("ssm_in_multiplier"))
    return replace(part, weights=weights)


def _feed_forward(config: Fields, at: str) -> Part:
    """Return the gated layer with a factor on the gate and one on what comes out."""
    gate, out = _factors(config, "mlp_multipliers", 2)
    bias, hidden = config.flag("mlp_bias"), config.whole("intermediate_size")
    norm = norm_weights(f"{at}pre_ff_layernorm")
    part = swiglu(config, f"{at}feed_forward.", norm, bias=bias, out_scale=out)
    names = ["project_in.weight"] + (["project_in.bias"] if bias else [])
    weights = dict(part.weights)
    for name in names:
        weights |= _stretched(part, name, (gate, 1.0), (hidden, hidden))
    return replace(part, weights=weights)


def _factors(config: Fields, name: str, count: int) -> list[float]:
    """Return a list of factors; left out, they are all one."""
    factors = config.listed(name) or [1.0] * count
    right = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in factors)
    if len(factors) != count or not right:
        config.refuse(name, "has the wrong value", f"{count} numbers")
        return [1.0] * count
    return [float(one) for one in factors]


def _stretched(
    part: Part, name: str, factors: Sequence[float], rows: Sequence[int]
) -> dict[str, Take]:
    """Return a weight of a part with a factor on each block of its rows."""
    if all(factor == 1 for factor in factors):
        return {}

    def by_row(weight: Tensor) -> Tensor:
        each = torch.tensor(factors, dtype=torch.float32).repeat_interleave(torch.tensor(rows))
        return each.view(-1, *[1] * (weight.dim() - 1)).to(weight)

    changed = part.weights[f"body.{name}"].then(
        lambda weight: weight * by_row(weight), lambda weight: weight / by_row(weight)
    )
    return {f"body.{name}": changed}


MULTIPLIERS = (
    *("mlp_multipliers", "key_multiplier", "attention_out_multiplier", "attention_in_multiplier"),
    *("ssm_multipliers", "ssm_in_multiplier", "ssm_out_multiplier"),
)


@writes("falcon_h1", "FalconH1ForCausalLM", folded=MULTIPLIERS)
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Falcon-H1 holds for an architecture."""
    told = of.given("mamba2")
    found = written.basics(of, len(of.order("mamba2")), scaled=True) | written.heads(of)
    return found | {
        **written.rope(of),
        **written.mamba2(of),
        "mamba_d_ssm": told["heads"] * written.head_size(of),
        "mamba_rms_norm": told["norm"] != "none",
        "mamba_norm_before_gate": told["norm"] != "after_gate",
        "projectors_bias": told["bias"],
        "lm_head_multiplier": of.given("lm_head")["scale"],
        "intermediate_size": written.hidden(of),
        "hidden_act": written.bend(of),
        "mlp_bias": of.given("swiglu")["bias"],
    }
