"""Zamba2: Mamba-2, and blocks of attention that many layers share, each use with pairs of its own. https://arxiv.org/abs/2411.15242."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    GATES,
    attention,
    embedding,
    final,
    mamba2,
    norm_weights,
    ratio,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import Take, joined, take
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "hidden_size": 2560,
    "num_hidden_layers": 54,
    "layers_block_type": None,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_ngroups": 1,
    "time_step_min": 0.001,
    "n_mamba_heads": 8,
    "chunk_size": 256,
    "add_bias_linear": False,
    "intermediate_size": None,
    "hidden_act": "gelu",
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "attention_dropout": 0.0,
    "num_mem_blocks": 1,
    "use_shared_attention_adapter": False,
    "adapter_rank": 128,
    "use_mem_rope": False,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "use_long_context": False,
    "tie_word_embeddings": True,
}
# How weights start, in which way the same is computed, what other fields say already, and what the model leaves unread.
HARMLESS = {
    *("time_step_max", "time_step_floor", "use_mamba_kernels", "use_mem_eff_path", "use_conv_bias"),
    *("kv_channels", "num_query_groups", "hybrid_layer_ids"),
}
MAMBA, HYBRID = "linear_attention", "hybrid"
KINDS = {MAMBA: MAMBA, "mamba": MAMBA, "mamba2": MAMBA, HYBRID: HYBRID}
PRESET = [
    *(MAMBA, *([MAMBA] * 5 + [HYBRID]) * 7),
    *([MAMBA] * 4 + [HYBRID] + [MAMBA] * 3 + [HYBRID] + [MAMBA] * 2),
]
EPS_OF_GATES = 1e-5


@family("zamba2", source="https://arxiv.org/abs/2411.15242", defaults=DEFAULTS, harmless=HARMLESS)
def zamba2(config: Fields) -> Draft:
    """Read Mamba-2 layers, some of which add what a shared block makes of the stream and of the embedding."""
    eps = config.number("rms_norm_eps", least=0)
    unused = ("*.rotary_emb.inv_freq", "lm_head.weight")
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=unused)
    untied = "versions of transformers differ in whether such a model shares its blocks"
    config.only("tie_word_embeddings", True, because=untied)
    config.dropout("attention_dropout")
    config.only("use_long_context", False)
    kinds, blocks = _kinds(config), config.whole("num_mem_blocks")
    config.only("num_hidden_layers", len(kinds))
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=True)]
    lenders: list[str] = []
    uses = 0
    for layer, kind in enumerate(kinds):
        at = f"model.layers.{layer}."
        if kind == MAMBA:
            norm = norm_weights(f"{at}input_layernorm")
            draft.layers.append([_mamba2(config, f"{at}mamba.", norm)])
            continue
        block, place = uses % blocks, f"{at}shared_transformer."
        if uses < blocks:
            lenders.append(place)
        else:
            draft.unused += (f"{place}*",)  # the lender's, under another name
        name = "first" if blocks == 1 else f"first_{block + 1}"
        one = _block(config, lenders[block], uses, eps)
        if uses >= blocks:
            name, one = "hybrid", replace(one, share=f"{name}.block")
        draft.layers.append([_hybrid(config, name, one, at, eps)])
        uses += 1
    draft.after = final(config, "rms_norm", "model.final_layernorm", eps, tied=True)
    return draft


def _kinds(config: Fields) -> list[str]:
    """Return the kind of each layer."""
    given = ("layers_block_type", "layer_types")
    name = next((one for one in given if config.given(one)), given[0])
    words = config.listed(name) or PRESET
    if not set(map(str, words)) <= set(KINDS):
        config.refuse(name, "does not name each layer's kind", " or ".join(map(repr, KINDS)))
        words = PRESET
    config.passed(*given)
    return [KINDS[str(word)] for word in words]


def _hybrid(config: Fields, name: str, block: Part, at: str, eps: float) -> Part:
    """Return a layer in which Mamba-2 reads the stream and what a block says of it; the stream goes on around both."""
    none = Residual.NONE
    mamba = _mamba2(config, f"{at}mamba_decoder.mamba.", {})
    norm = norm_weights(f"{at}mamba_decoder.input_layernorm", prefix="body.")
    return Part(
        id=name,
        parts=(
            Part("concat", {"project": False}, id="joined", inputs=(INPUT, "tokens")),
            block,
            Part("linear", {}, {"body.map.weight": take(f"{at}linear.weight")}, residual=none),
            Part("sum", id="added", inputs=(INPUT, "linear")),
            Part("rms_norm", {"eps": eps}, norm),
            replace(mamba, id="mamba2", residual=none),
            Part("sum", id="output", inputs=(INPUT, "mamba2")),
        ),
    )


def _block(config: Fields, at: str, use: int, eps: float) -> Part:
    """Return attention over stream and embedding, then a gated layer, with the pairs of one use."""
    norms = [
        Part("rms_norm", {"eps": eps}, norm_weights(f"{at}{name}", prefix="body."), id=id)
        for name, id in (("input_layernorm", "norm"), ("pre_ff_layernorm", "norm_2"))
    ]
    heads = _attention(config, f"{at}self_attn.", use)
    feed = _feed_forward(config, f"{at}feed_forward.", use)
    return Part(id="block", parts=(norms[0], heads, norms[1], feed))


def _attention(config: Fields, at: str, use: int) -> Part:
    """Return attention on twice the width, whose scores are those of heads half as large."""
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    config.only("attention_hidden_size", None, 2 * width)
    config.only("attention_head_dim", None, 2 * width // heads)
    config.only("head_dim", None, 2 * width // heads)
    positions: dict[str, Any] = {"rotary": False}
    if config.flag("use_mem_rope"):
        positions = rotary(config)
    else:
        config.passed("rope_parameters", "rope_theta", "rope_scaling")
    part = attention(config, at, {}, positions=positions)
    size = 2 * width // heads
    params = part.params | {"head_dim": size, "scale": 1 / math.sqrt(size / 2)}
    others = config.maybe_whole("num_key_value_heads") or heads
    inwards = joined(
        *(f"{at}{which}_proj.weight" for which in "qkv"),
        rows=[size * count for count in (heads, others, others)],
    )
    weights = part.weights | {"body.project_in.weight": inwards}
    part = replace(part, params=params, weights=weights, residual=Residual.NONE)
    rank = config.whole("adapter_rank")
    if not config.flag("use_shared_attention_adapter"):
        return part
    config.only("num_key_value_heads", None, heads, because="pairs are as wide as all heads")
    names = [f"{at}linear_{which}_adapter_list.{use}." for which in "qkv"]
    pairs = {
        "body.project_in.down": joined(*(f"{name}0.weight" for name in names)),
        "body.project_in.up": joined(*(f"{name}1.weight" for name in names)),
    }
    return replace(part, weights=part.weights | pairs, lora=rank)


def _feed_forward(config: Fields, at: str, use: int) -> Part:
    """Return the gated layer, whose gate and value have one pair for each use."""
    field, width = "intermediate_size", config.whole("hidden_size")
    hidden = config.maybe_whole(field) or 4 * width
    params: dict[str, Any] = {
        "ratio": ratio(config, hidden, field),
        "gate": config.choice("hidden_act", GATES),
    }
    pair = f"{at}gate_up_proj_adapter_list.{use}."
    weights: dict[str, Take] = {
        "body.project_in.weight": take(f"{at}gate_up_proj.weight"),
        "body.project_out.weight": take(f"{at}down_proj.weight"),
        "body.project_in.down": take(f"{pair}0.weight"),
        "body.project_in.up": take(f"{pair}1.weight"),
    }
    if config.flag("add_bias_linear"):
        params["bias"] = True
        weights["body.project_in.bias"] = take(f"{at}gate_up_proj.bias")
        weights["body.project_out.bias"] = take(f"{at}down_proj.bias")
    rank = config.whole("adapter_rank")
    return Part("swiglu", params, weights, residual=Residual.NONE, lora=rank)


def _mamba2(config: Fields, at: str, norm: dict[str, Take]) -> Part:
    width, heads = config.whole("hidden_size"), config.whole("n_mamba_heads")
    expand, least = config.whole("mamba_expand"), config.number("time_step_min", least=0)
    config.only("mamba_headdim", None, expand * width // heads)
    return mamba2(
        config,
        at,
        norm,
        heads=heads,
        head_dim=expand * width // heads,
        state=config.whole("mamba_d_state"),
        groups=config.whole("mamba_ngroups"),
        expand=expand,
        conv=config.whole("mamba_d_conv"),
        chunk=config.whole("chunk_size", least=2),
        eps=EPS_OF_GATES,
        bias=config.flag("add_bias_linear"),
        conv_bias=True,
        steps={"step_min": least} if least else {},
    )


@writes("zamba2", "Zamba2ForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Zamba2 holds for an architecture."""
    order = of.order("concat", "mamba2")
    kinds = [
        HYBRID if before == "concat" else MAMBA
        for before, op in zip(["", *order], order, strict=False)
        if op == "mamba2"
    ]
    told, heads, blocks = of.given("mamba2"), of.given("attention"), of.uses("swiglu")
    adapters = {use.essentials["lora"] for use in of.uses("attention")}
    turning = bool(blocks) and bool(heads["rotary"])
    found = written.basics(of, len(kinds))
    if turning:
        found |= written.rope(of)
    if blocks:  # what stands in no layer keeps the family's numbers
        found |= {
            "num_attention_heads": heads["heads"],
            "num_key_value_heads": heads["kv_heads"] or heads["heads"],
            "intermediate_size": written.hidden(of),
            "hidden_act": written.bend(of),
            "adapter_rank": blocks[0].essentials["lora"] or DEFAULTS["adapter_rank"],
        }
    return found | {
        "layers_block_type": kinds,
        "num_mem_blocks": max(1, len({use.owner for use in blocks})),
        "use_shared_attention_adapter": adapters not in (set(), {0}),
        "use_mem_rope": turning,
        "add_bias_linear": told["bias"],
        "n_mamba_heads": told["heads"],
        "mamba_d_state": told["state"],
        "mamba_ngroups": told["groups"],
        "mamba_d_conv": told["conv"],
        "mamba_expand": written.expand(of),
        "chunk_size": told["chunk"],
        "time_step_min": told["step_min"],
    }
