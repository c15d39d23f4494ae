"""RecurrentGemma: RG-LRU blocks and attention in a window; https://arxiv.org/abs/2404.07839."""

from __future__ import annotations

import math
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
    deep_taps,
    embedding,
    final,
    flat_taps,
    norm_weights,
    ratio,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import Take, built, joined, take

DEFAULTS = {
    "num_hidden_layers": 26,
    "vocab_size": 256000,
    "hidden_size": 2560,
    "intermediate_size": 7680,
    "num_attention_heads": 10,
    "lru_width": None,
    "attention_window_size": 2048,
    "conv1d_width": 4,
    "logits_soft_cap": 30.0,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "block_types": ("recurrent", "recurrent", "attention"),
    "attention_dropout": 0.0,
    "num_key_value_heads": None,
    "attention_bias": False,
    "w_init_variance_scale": 0.01,
    "tie_word_embeddings": True,
}
# How weights start, and what block_types says already.
HARMLESS = {"final_w_init_variance_scale", "_block_types", "layers_block_type", "layer_types"}


@family(
    "recurrent_gemma",
    source="https://arxiv.org/abs/2404.07839",
    defaults=DEFAULTS,
    harmless=HARMLESS,
)
def recurrent_gemma(config: Fields) -> Draft:
    """Read RG-LRU blocks or attention, then a gated feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.only("embeddings_scale_by_sqrt_dim", None, True)
    draft.before = [_embedding(config, shared=shared)]
    for layer, kind in enumerate(_kinds(config)):
        at = f"model.layers.{layer}."
        norm = _scales(f"{at}temporal_pre_norm")
        mixer = (
            _rg_lru(config, f"{at}temporal_block.", norm)
            if kind == "recurrent"
            else attention(
                config,
                f"{at}temporal_block.",
                norm,
                positions=rotary(config, 0.5),
                bias=config.flag("attention_bias"),
                out_bias=True,
                window=config.whole("attention_window_size"),
            )
        )
        draft.layers.append([mixer, _feed_forward(config, at)])
    cap = config.number("logits_soft_cap", least=1e-6)
    norm_part, head = final(config, "rms_norm", "model.final_norm", eps, tied=shared, soft_cap=cap)
    draft.after = [replace(norm_part, weights=_scales("model.final_norm", "body.")), head]
    return draft


def _kinds(config: Fields) -> list[str]:
    """Return the kind of each layer: the given ones over and over."""
    count = config.whole("num_hidden_layers")
    older = config.given("_block_types") and not config.given("block_types")
    name = "_block_types" if older else "block_types"
    kinds = config.listed(name)
    if not kinds or not set(map(str, kinds)) <= {"recurrent", "attention"}:
        config.refuse(name, "does not name kinds of layers", "recurrent or attention")
        kinds = ["recurrent"]
    return [str(kinds[layer % len(kinds)]) for layer in range(count)]


def _embedding(config: Fields, *, shared: bool) -> Part:
    """Return the token embedding; its factor is rounded as the published one is."""
    root = torch.tensor(config.whole("hidden_size") ** 0.5, dtype=torch.bfloat16).item()
    part = embedding(config, "model.embed_tokens.weight", scale=root)
    spread = config.number("w_init_variance_scale", least=1e-12) / config.whole("conv1d_width")
    return replace(part, params=part.params | ({"std": math.sqrt(spread)} if shared else {}))


def _scales(name: str, prefix: str = "norm.") -> dict[str, Take]:
    """Return the weights of a norm whose file keeps how far its scales are from one."""
    found = norm_weights(name, prefix=prefix)
    return {
        key: one.then(lambda weight: weight + 1, lambda weight: weight - 1)
        for key, one in found.items()
    }


def _rg_lru(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    heads = config.whole("num_attention_heads")
    params: dict[str, Any] = {"heads": heads, "conv": config.whole("conv1d_width")}
    hidden = config.maybe_whole("lru_width")
    if hidden not in (None, config.whole("hidden_size")):
        params["hidden"] = hidden
    gates = (f"{at}rg_lru.input_gate", f"{at}rg_lru.recurrent_gate")
    weights = norm | {
        "body.conv.taps": take(f"{at}conv_1d.weight").then(flat_taps, deep_taps),
        "body.conv.bias": take(f"{at}conv_1d.bias"),
        "body.gates": built([f"{gate}_weight" for gate in gates], _side_by_side, _apart),
        "body.gate_bias": built([f"{gate}_bias" for gate in gates], _side_by_side, _apart).then(
            torch.flatten, lambda both: torch.unflatten(both, 0, (heads, -1))
        ),
        "body.decay": take(f"{at}rg_lru.recurrent_param"),
    }
    maps = {"project_gate": "linear_y", "project_in": "linear_x", "project_out": "linear_out"}
    for ours, published in maps.items():
        for what in ("weight", "bias"):
            weights[f"body.{ours}.{what}"] = take(f"{at}{published}.{what}")
    return Part("rg_lru", params, weights)


def _side_by_side(gates: list[Tensor]) -> Tensor:
    """Return the input gate and then the decay gate of each head."""
    return torch.cat(gates, dim=-1)


def _apart(both: Tensor) -> list[Tensor]:
    """Undo it."""
    return list(both.chunk(2, dim=-1))


def _feed_forward(config: Fields, at: str) -> Part:
    """Return the gated layer; the published size counts gate and value together."""
    inner = config.whole("intermediate_size") // 2
    params = {
        "ratio": ratio(config, inner, "intermediate_size"),
        "gate": "gelu_tanh",
        "bias": True,
    }
    place = f"{at}mlp_block."
    weights = _scales(f"{at}channel_pre_norm")
    for what in ("weight", "bias"):
        inwards = joined(f"{place}gate_proj.{what}", f"{place}up_proj.{what}")
        weights[f"body.project_in.{what}"] = inwards
        weights[f"body.project_out.{what}"] = take(f"{place}down_proj.{what}")
    return Part("swiglu", params, weights)


@writes("recurrent_gemma", "RecurrentGemmaForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of RecurrentGemma holds for an architecture."""
    mixers, told = of.order("attention", "rg_lru"), of.given("attention")
    found = written.basics(of, len(mixers)) | written.heads(of) | written.rope(of)
    found.pop("initializer_range", None)
    return found | {
        "num_attention_heads": told["heads"]
        if "attention" in mixers
        else of.given("rg_lru")["heads"],
        "attention_window_size": told["window"] or DEFAULTS["attention_window_size"],
        "block_types": ["attention" if one == "attention" else "recurrent" for one in mixers],
        "lru_width": of.given("rg_lru")["hidden"] or of.width,
        "conv1d_width": of.given("rg_lru")["conv"],
        "logits_soft_cap": of.given("lm_head")["soft_cap"] or DEFAULTS["logits_soft_cap"],
        "intermediate_size": 2 * written.hidden(of),
        "w_init_variance_scale": of.given("token_embedding")["std"] ** 2
        * of.given("rg_lru")["conv"],
    }
