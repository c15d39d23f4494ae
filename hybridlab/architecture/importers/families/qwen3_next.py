"""Qwen3-Next: Gated DeltaNet with gated attention every fourth layer, experts beside a shared one."""

from __future__ import annotations

from collections.abc import Callable
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
    experts,
    final,
    flat_taps,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.query_norms import with_query_norms
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.shared_expert import beside_shared
from hybridlab.architecture.importers.weights import Take, built, take

DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts_per_tok": 10,
    "num_experts": 512,
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.001,
    "mlp_only_layers": None,
    "layer_types": None,
}
LAYERS = ("linear_attention", "full_attention")


@family("qwen3_next", source="https://arxiv.org/abs/2412.06464", defaults=DEFAULTS)
def qwen3_next(config: Fields) -> Draft:
    """Read Gated DeltaNet or attention, then experts or a feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    draft.unused += ("mtp.*",)  # a head that guesses the token after the next one
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    config.only("hidden_act", "silu", "swish")
    config.only("use_sliding_window", None, False)
    positions = rotary(config, 0.25)
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    count, step = config.whole("num_experts", least=0), config.whole("decoder_sparse_step")
    dense = set(config.listed("mlp_only_layers"))
    for layer, kind in enumerate(
        layer_kinds(config, config.maybe_whole("full_attention_interval"))
    ):
        at = f"model.layers.{layer}."
        norm = {"norm.scale": _from_zero(f"{at}input_layernorm.weight")}
        if kind == "full_attention":
            mixer = _attention(config, f"{at}self_attn.", norm, positions, eps)
        else:
            mixer = gated_delta_net(
                config, f"{at}linear_attn.", norm, inwards=_by_key_head(config, at), eps=eps
            )
        norm = {"norm.scale": _from_zero(f"{at}post_attention_layernorm.weight")}
        if count and layer not in dense and (layer + 1) % step == 0:
            feed = _experts(config, f"{at}mlp.", norm, count)
        else:
            feed = swiglu(config, f"{at}mlp.", norm)
        draft.layers.append((mixer, feed))
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared)
    draft.after[0].weights["body.scale"] = _from_zero("model.norm.weight")
    return draft


def layer_kinds(config: Fields, interval: int | None = None) -> list[str]:
    """Return the kind of each layer; attention is the last of every ``interval`` (4) where nothing else is said."""
    count = config.whole("num_hidden_layers")
    kinds = list(map(str, config.listed("layer_types")))
    if not kinds:
        every = interval or 4
        return [LAYERS[(layer + 1) % every == 0] for layer in range(count)]
    if len(kinds) != count or not set(kinds) <= set(LAYERS):
        config.refuse(
            "layer_types", "does not name each layer's kind", f"{count} of {' or '.join(LAYERS)}"
        )
    return kinds


def gated_delta_net(
    config: Fields,
    at: str,
    norm: dict[str, Take],
    *,
    inwards: Take,
    eps: float,
    negative: bool = False,
    conv: Take | None = None,
    names: tuple[str, str] = ("norm", "out_proj"),
) -> Part:
    """Return a Gated DeltaNet whose sizes are the fields ``linear_…``.

    ``inwards`` is queries, keys, values, gate, beta and step in one map; ``names`` are those of the inner norm and of
    the map out. Where a field is null: as many heads as attention has, keys of 3/4 of the width, values twice as large.
    """
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    key_heads = config.maybe_whole("linear_num_key_heads") or heads
    heads = config.maybe_whole("linear_num_value_heads") or heads
    key_dim = config.maybe_whole("linear_key_head_dim") or int(0.75 * width / key_heads)
    params: dict[str, Any] = {"heads": heads}
    if key_heads != heads:
        params["key_heads"] = key_heads
    params |= {
        "key_dim": key_dim,
        "value_dim": config.maybe_whole("linear_value_head_dim") or 2 * key_dim,
        "conv": config.whole("linear_conv_kernel_dim"),
    }
    if negative:
        params["negative"] = True
    if eps != 1e-6:
        params["eps"] = eps
    inner, out = names
    weights = norm | {
        "body.project_in.weight": inwards,
        "body.conv.taps": (conv or take(f"{at}conv1d.weight")).then(flat_taps, deep_taps),
        "body.step_bias": take(f"{at}dt_bias"),
        "body.log_rate": take(f"{at}A_log"),
        "body.norm.scale": take(f"{at}{inner}.weight"),
        "body.project_out.weight": take(f"{at}{out}.weight"),
    }
    return Part("gated_delta_net", params, weights)


def _from_zero(name: str) -> Take:
    """Return the scale of a norm that is kept as its distance from one."""
    return take(name).then(lambda scale: scale + 1, lambda scale: scale - 1)


def _by_key_head(config: Fields, at: str) -> Take:
    """Return the map in of a Gated DeltaNet, which the file sorts by the heads of keys."""
    key_heads, each = (config.whole(f"linear_num_{which}_heads") for which in ("key", "value"))
    each //= key_heads
    key, value = (config.whole(f"linear_{which}_head_dim") for which in ("key", "value"))

    def apart(maps: list[Tensor]) -> Tensor:
        sizes = ([key, key, each * value, each * value], [each, each])
        return torch.cat(
            [
                part.flatten(0, 1)
                for fused, parts in zip(maps, sizes, strict=True)
                for part in torch.split(torch.unflatten(fused, 0, (key_heads, -1)), parts, 1)
            ]
        )

    def together(whole: Tensor) -> list[Tensor]:
        """Undo it."""
        sizes = ([key, key, each * value, each * value], [each, each])
        parts = iter(torch.split(whole, [key_heads * size for both in sizes for size in both]))
        return [
            torch.cat([torch.unflatten(next(parts), 0, (key_heads, -1)) for _ in group], 1).flatten(
                0, 1
            )
            for group in sizes
        ]

    maps = ("in_proj_qkvz", "in_proj_ba")
    return built([f"{at}linear_attn.{name}.weight" for name in maps], apart, together)


def _attention(
    config: Fields, at: str, norm: dict[str, Take], positions: dict[str, Any], eps: float
) -> Part:
    """Return attention with a gate, whose map stands in that of the queries, head by head."""
    heads, bias = config.whole("num_attention_heads"), config.flag("attention_bias")
    part = attention(config, at, norm, positions=positions, bias=bias)

    def half(which: int) -> Callable[[Tensor], Tensor]:
        return lambda both: torch.unflatten(both, 0, (heads, 2, -1))[:, which].flatten(0, 1)

    def both(which: int) -> Callable[[Tensor], Tensor]:
        """Return the map that has a half; the other half is not known there."""

        def widened(one: Tensor) -> Tensor:
            known = torch.unflatten(one, 0, (heads, -1))
            halves = [torch.full_like(known, torch.nan)] * 2
            halves[which] = known
            return torch.stack(halves, 1).flatten(0, 2)

        return widened

    def with_half(qkv: list[Tensor]) -> Tensor:
        return torch.cat((half(0)(qkv[0]), *qkv[1:]))

    def apart(whole: Tensor) -> list[Tensor]:
        keys = (config.maybe_whole("num_key_value_heads") or heads) * whole.shape[0]
        keys //= heads + 2 * (config.maybe_whole("num_key_value_heads") or heads)
        queries, *others = torch.split(whole, [whole.shape[0] - 2 * keys, keys, keys])
        return [both(0)(queries), *others]

    weights = dict(part.weights)
    for what in ("weight", "bias") if bias else ("weight",):
        names = [f"{at}{name}_proj.{what}" for name in "qkv"]
        weights[f"body.project_in.{what}"] = built(names, with_half, apart)
        weights[f"body.output_gate.{what}"] = take(names[0]).then(half(1), both(1))
    return with_query_norms(
        replace(part, params={**part.params, "output_gate": True}, weights=weights),
        _from_zero(f"{at}q_norm.weight"),
        _from_zero(f"{at}k_norm.weight"),
        eps,
    )


def _experts(config: Fields, at: str, norm: dict[str, Take], count: int) -> Part:
    """Return experts and a shared one, which a gate opens."""
    weights = {"body.shared_gate.weight": take(f"{at}shared_expert_gate.weight")}
    part = experts(
        config,
        norm | weights,
        count=count,
        top_k=config.whole("num_experts_per_tok"),
        router=(f"{at}gate.weight",),
        at=(f"{at}experts.",),
        names=("gate_proj", "up_proj", "down_proj"),
        balance=config.number("router_aux_loss_coef", least=0),
    )
    shared_field = "shared_expert_intermediate_size"
    return beside_shared(
        config,
        part,
        hidden=config.whole("moe_intermediate_size"),
        shared=config.whole(shared_field),
        shared_field=shared_field,
        at=(f"{at}shared_expert.",),
        normalised=config.flag("norm_topk_prob"),
        params={"shared_gate": True},
    )


@writes("qwen3_next", "Qwen3NextForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Qwen3-Next holds for an architecture."""
    mixers, feeds = of.order("attention", "gated_delta_net"), of.order("swiglu", "moe")
    moe, many = of.given("moe"), "moe" in feeds
    found = written.basics(of, len(mixers)) | written.heads(of, always=True) | written.rope(of)
    found["rope_parameters"].setdefault("partial_rotary_factor", 1.0)
    return found | {
        **delta_fields(of),
        "layer_types": [LAYERS[mixer == "attention"] for mixer in mixers],
        "intermediate_size": written.hidden(of),
        "num_experts": moe["experts"] if many else 0,
        "num_experts_per_tok": moe["top_k"],
        "norm_topk_prob": written.summed_to_one(moe),
        "moe_intermediate_size": written.hidden(of, "moe"),
        "shared_expert_intermediate_size": written.hidden(of, "moe", "shared_ratio"),
        "router_aux_loss_coef": moe["balance_weight"],
        "mlp_only_layers": [at for at, feed in enumerate(feeds) if feed == "swiglu"],
    }


def delta_fields(of: NormalForm) -> dict[str, Any]:
    """Return the sizes of a Gated DeltaNet."""
    told = of.given("gated_delta_net")
    count = told["heads"]
    return {
        "linear_num_value_heads": count,
        "linear_num_key_heads": told["key_heads"] or count,
        "linear_key_head_dim": told["key_dim"] or of.width // count,
        "linear_value_head_dim": told["value_dim"] or of.width // count,
        "linear_conv_kernel_dim": told["conv"],
    }
