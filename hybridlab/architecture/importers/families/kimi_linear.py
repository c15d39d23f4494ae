"""Kimi Linear: Kimi Delta Attention between layers of latent attention, experts; https://arxiv.org/abs/2510.26692."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    deep_taps,
    embedding,
    experts,
    final,
    flat_taps,
    norm_weights,
    swiglu,
)
from hybridlab.architecture.importers.shared_expert import beside_shared
from hybridlab.architecture.importers.weights import Take, first_of, joined, take

DEFAULTS = {
    "vocab_size": 163840,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "n_shared_experts": 1,
    "routed_scaling_factor": 2.446,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "hidden_act": "silu",
    "max_position_embeddings": 1048576,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "num_local_experts": 256,
    "mlp_layer_types": None,
    "layer_types": None,
    "linear_head_dim": 128,
    "linear_num_heads": 32,
    "linear_conv_kernel_dim": 4,
}
# Lengths, and sums of other fields.
HARMLESS = {"model_max_length", "qk_head_dim", "head_dim"}
PUBLISHED = {
    "norm_topk_prob": "moe_renormalize",
    "n_group": "num_expert_group",
    "num_local_experts": "num_experts",
    "num_experts_per_tok": "num_experts_per_token",
    "n_shared_experts": "num_shared_experts",
}
"""What files call some fields."""
LAYERS = ("linear_attention", "full_attention")
FEEDS = ("dense", "sparse")


@family(
    "kimi_linear", source="https://arxiv.org/abs/2510.26692", defaults=DEFAULTS, harmless=HARMLESS
)
def kimi_linear(config: Fields) -> Draft:
    """Read Kimi Delta Attention or latent attention, then experts or a feed-forward layer, pre-norm, over and over."""
    eps = config.number("rms_norm_eps", least=0)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps)
    _refuse_others(config)
    inner = config.section("linear_attn_config")
    draft.before = [embedding(config, "model.embed_tokens.weight")]
    kinds, feeds = _layers(config, inner), _feeds(config)
    for layer, (kind, feed) in enumerate(zip(kinds, feeds, strict=True)):
        at = f"model.layers.{layer}."
        norm = norm_weights(f"{at}input_layernorm")
        mixer = (
            _latent(config, f"{at}self_attn.", norm)
            if kind == "full_attention"
            else _delta(config, inner, f"{at}self_attn.", norm, eps)
        )
        norm = norm_weights(f"{at}post_attention_layernorm")
        layer_of = _experts if feed == "sparse" else _dense
        draft.layers.append((mixer, layer_of(config, at, norm)))
    draft.after = final(config, "rms_norm", "model.norm", eps)
    return draft


def _refuse_others(config: Fields) -> None:
    """Refuse what published files could say and no component computes."""
    config.only("hidden_act", "silu", "swish")
    config.only("tie_word_embeddings", False)
    config.only("num_key_value_heads", None, config.whole("num_attention_heads"))
    config.only("mla_use_nope", None, True)
    config.only("moe_router_activation_func", None, "sigmoid")
    config.only("moe_layer_freq", None, 1)
    config.only("num_nextn_predict_layers", None, 0)
    config.passed("use_grouped_topk", "rope_theta", "rope_scaling", "rope_parameters")
    config.dropout("attention_dropout")


def _name(config: Fields, ours: str) -> str:
    """Return what a config calls a field."""
    theirs = PUBLISHED[ours]
    config.passed(ours, theirs)
    return theirs if config.given(theirs) else ours


def _layers(config: Fields, inner: Fields) -> list[str]:
    """Return the kind of each layer, from its list or from the numbers (from 1) of those that attend."""
    count = config.whole("num_hidden_layers")
    kinds = list(map(str, config.listed("layer_types")))
    numbers = {name: inner.listed(name) for name in ("full_attn_layers", "kda_layers")}
    if not kinds and all(map(inner.given, numbers)):
        if sorted(number for group in numbers.values() for number in group) != list(
            range(1, count + 1)
        ):
            inner.refuse(
                "kda_layers", "does not name each layer once", f"numbers from 1 to {count}"
            )
        attending = set(numbers["full_attn_layers"])
        return [LAYERS[layer + 1 in attending] for layer in range(count)]
    if not kinds:
        return [LAYERS[layer > 0 and layer % 4 == 0] for layer in range(count)]
    return _checked(config, "layer_types", kinds, LAYERS)


def _feeds(config: Fields) -> list[str]:
    """Return what follows each layer: experts, but for the first."""
    kinds = list(map(str, config.listed("mlp_layer_types")))
    dense = config.maybe_whole("first_k_dense_replace", least=0)
    if kinds:
        return _checked(config, "mlp_layer_types", kinds, FEEDS)
    first = 1 if dense is None else dense
    return [FEEDS[layer >= first] for layer in range(config.whole("num_hidden_layers"))]


def _checked(config: Fields, name: str, kinds: list[str], known: tuple[str, ...]) -> list[str]:
    count = config.whole("num_hidden_layers")
    if len(kinds) != count or not set(kinds) <= set(known):
        config.refuse(name, "does not name each layer's kind", f"{count} of {' or '.join(known)}")
        return [known[0]] * count
    return kinds


def _delta(config: Fields, inner: Fields, at: str, norm: dict[str, Take], eps: float) -> Part:
    """Return Kimi Delta Attention; its sizes stand in a section of their own, or beside the others."""

    def size(published: str, ours: str) -> int:
        beside = config.whole(ours)
        return inner.whole(published) if inner.given(published) else beside

    dim = size("head_dim", "linear_head_dim")
    params: dict[str, Any] = {
        "heads": size("num_heads", "linear_num_heads"),
        "key_dim": dim,
        "value_dim": dim,
        "conv": size("short_conv_kernel_size", "linear_conv_kernel_dim"),
    }
    if eps != 1e-6:
        params["eps"] = eps

    def gate(name: str) -> Take:
        return first_of(take(f"{at}forget_gate.{name}"), take(f"{at}{name}"))

    heads = params["heads"]
    rows = [heads * dim, heads * dim, heads * dim, heads, dim, dim]

    def inwards(forget: str) -> Take:
        maps = ("q_proj", "k_proj", "v_proj", "b_proj", forget, "g_a_proj")
        return joined(*(f"{at}{name}.weight" for name in maps), rows=rows)

    weights = norm | {
        "body.project_in.weight": first_of(inwards("forget_gate.f_a_proj"), inwards("f_a_proj")),
        "body.conv.taps": first_of(
            take(f"{at}conv1d.weight"), joined(*(f"{at}{name}_conv1d.weight" for name in "qkv"))
        ).then(flat_taps, deep_taps),
        "body.forget_up.weight": gate("f_b_proj.weight"),
        "body.step_bias": gate("dt_bias"),
        "body.log_rate": gate("A_log").then(Tensor.flatten, _as_published),
        "body.gate_up.weight": take(f"{at}g_b_proj.weight"),
        "body.norm.scale": take(f"{at}o_norm.weight"),
        "body.project_out.weight": take(f"{at}o_proj.weight"),
    }
    return Part("kimi_delta_attention", params, weights)


def _as_published(rates_H: Tensor) -> Tensor:
    """Return decay rates (H) as files have them, (1, 1, H, 1)."""
    return rates_H.view(1, 1, -1, 1)


def _latent(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    """Return latent attention without positions."""
    params: dict[str, Any] = {
        "heads": config.whole("num_attention_heads"),
        "kv_rank": config.whole("kv_lora_rank"),
        "nope_dim": config.whole("qk_nope_head_dim"),
        "rope_dim": config.whole("qk_rope_head_dim", least=0),
        "value_dim": config.whole("v_head_dim"),
        "rotary": False,
    }
    weights = norm | {
        "body.latent_down.weight": take(f"{at}kv_a_proj_with_mqa.weight"),
        "body.latent_norm.scale": take(f"{at}kv_a_layernorm.weight"),
        "body.latent_up.weight": take(f"{at}kv_b_proj.weight"),
        "body.project_out.weight": take(f"{at}o_proj.weight"),
    }
    rank, bias = config.maybe_whole("q_lora_rank"), config.flag("attention_bias")
    if rank is None:
        weights["body.query.weight"] = take(f"{at}q_proj.weight")
    else:
        params["query_rank"] = rank
        weights |= {
            "body.query.0.weight": take(f"{at}q_a_proj.weight"),
            "body.query.1.scale": take(f"{at}q_a_layernorm.weight"),
            "body.query.2.weight": take(f"{at}q_b_proj.weight"),
        }
    if bias:
        params["bias"] = True
        weights |= {
            "body.latent_down.bias": take(f"{at}kv_a_proj_with_mqa.bias"),
            "body.project_out.bias": take(f"{at}o_proj.bias"),
        }
        if rank is not None:
            weights["body.query.0.bias"] = take(f"{at}q_a_proj.bias")
    return Part("latent_attention", params, weights)


def _dense(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    """Return a feed-forward layer; files of newer libraries name it as they name experts."""
    part = swiglu(config, f"{at}mlp.", norm)
    other = swiglu(config, f"{at}block_sparse_moe.", norm)
    weights = {
        name: found if name in norm else first_of(found, other.weights[name])
        for name, found in part.weights.items()
    }
    return replace(part, weights=weights)


def _experts(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    """Return experts that a sigmoid chooses, and a layer that all positions share."""
    places = (f"{at}mlp.", f"{at}block_sparse_moe.")
    bias = first_of(*(take(f"{place}gate.e_score_correction_bias") for place in places))
    part = experts(
        config,
        norm | {"body.selection_bias": bias},
        count=config.whole(_name(config, "num_local_experts")),
        top_k=config.whole(_name(config, "num_experts_per_tok")),
        router=tuple(f"{place}gate.weight" for place in places),
        at=tuple(f"{place}experts." for place in places),
    )
    hidden, many = config.whole("moe_intermediate_size"), _name(config, "n_shared_experts")
    params: dict[str, Any] = {
        "routing": "sigmoid",
        "routed_scale": config.number("routed_scaling_factor"),
    }
    groups, top_groups = config.whole(_name(config, "n_group")), config.whole("topk_group")
    if groups > 1:
        params |= {"groups": groups, "top_groups": top_groups}
    return beside_shared(
        config,
        part,
        hidden=hidden,
        shared=hidden * config.whole(many),
        shared_field="moe_intermediate_size",
        at=tuple(f"{place}shared_experts." for place in places),
        normalised=config.flag(_name(config, "norm_topk_prob")),
        params=params,
    )


@writes("kimi_linear", "KimiLinearForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Kimi Linear holds for an architecture."""
    mixers = of.order("latent_attention", "kimi_delta_attention")
    delta, latent, moe = map(of.given, ("kimi_delta_attention", "latent_attention", "moe"))
    each, hidden = of.width // latent["heads"], written.hidden(of, "moe")
    shared = written.hidden(of, "moe", "shared_ratio") if moe["shared_ratio"] else 0
    return written.basics(of, len(mixers)) | {
        "layer_types": [LAYERS[mixer == "latent_attention"] for mixer in mixers],
        "mlp_layer_types": [FEEDS[feed == "moe"] for feed in of.order("swiglu", "moe")],
        "intermediate_size": written.hidden(of),
        "linear_num_heads": delta["heads"],
        "linear_head_dim": delta["key_dim"] or of.width // delta["heads"],
        "linear_conv_kernel_dim": max(1, delta["conv"]),
        "num_attention_heads": latent["heads"],
        "num_key_value_heads": latent["heads"],
        "kv_lora_rank": latent["kv_rank"],
        "q_lora_rank": latent["query_rank"],
        "qk_nope_head_dim": latent["nope_dim"] or each,
        "qk_rope_head_dim": latent["rope_dim"],
        "v_head_dim": latent["value_dim"] or each,
        "attention_bias": latent["bias"],
        "num_local_experts": moe["experts"],
        "num_experts_per_tok": moe["top_k"],
        "norm_topk_prob": written.summed_to_one(moe),
        "moe_intermediate_size": hidden,
        "n_shared_experts": max(1, shared // hidden),
        "routed_scaling_factor": moe["routed_scale"],
        "n_group": moe["groups"],
        "topk_group": moe["top_groups"],
    }
