"""LFM2: gated short convolutions with an attention layer here and there; https://arxiv.org/abs/2511.23404."""

from __future__ import annotations

from typing import Any

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
from hybridlab.architecture.importers.query_norms import with_query_norms
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.importers.weights import Take, joined, take

DEFAULTS = {
    "vocab_size": 65536,
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 128_000,
    "initializer_range": 0.02,
    "norm_eps": 1e-5,
    "rope_theta": 1_000_000.0,
    "rope_parameters": None,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": True,
    "full_attn_idxs": None,
    "layer_types": None,
    "tie_word_embeddings": True,
}
# How weights start, and what other fields say already.
HARMLESS = {
    *("block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init"),
    *("conv_use_xavier_init", "block_dim", "block_norm_eps", "conv_dim", "conv_dim_out"),
    *("num_heads", "theta"),
}
LAYERS = ("conv", "full_attention")


@family("lfm2", source="https://arxiv.org/abs/2511.23404", defaults=DEFAULTS, harmless=HARMLESS)
def lfm2(config: Fields) -> Draft:
    """Read a gated short convolution or attention, then a gated feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("norm_eps", least=0), tied(config)
    if config.given("tie_embedding"):
        shared = config.flag("tie_embedding")
    for name in ("block_use_swiglu", "use_pos_enc"):
        config.only(name, None, True)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    positions, bias = rotary(config), config.flag("conv_bias")
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    for layer, kind in enumerate(_layers(config)):
        at = f"model.layers.{layer}."
        norm = norm_weights(f"{at}operator_norm")
        if kind == "conv":
            mixer = _conv(config, f"{at}conv.", norm, bias=bias)
        else:
            names = ("q_proj", "k_proj", "v_proj", "out_proj")
            mixer = with_query_norms(
                attention(config, f"{at}self_attn.", norm, positions=positions, names=names),
                take(f"{at}self_attn.q_layernorm.weight"),
                take(f"{at}self_attn.k_layernorm.weight"),
                eps,
            )
        draft.layers.append((mixer, _feed_forward(config, at)))
    draft.after = final(config, "rms_norm", "model.embedding_norm", eps, tied=shared)
    return draft


def _layers(config: Fields) -> list[str]:
    """Return the kind of each layer; in older configs, those that attend are numbered."""
    count = config.whole("num_hidden_layers")
    kinds = config.listed("layer_types")
    if kinds:
        config.passed("full_attn_idxs")
        if len(kinds) != count or not set(map(str, kinds)) <= set(LAYERS):
            config.refuse(
                "layer_types",
                "does not name each layer's kind",
                f"{count} of {' or '.join(LAYERS)}",
            )
        return list(map(str, kinds))
    numbered = config.raw("full_attn_idxs") is not None
    numbers = set(config.listed("full_attn_idxs") if numbered else range(count))
    return ["full_attention" if layer in numbers else "conv" for layer in range(count)]


def _conv(config: Fields, at: str, norm: dict[str, Take], *, bias: bool) -> Part:
    params: dict[str, Any] = {
        "kernel": config.whole("conv_L_cache"),
        "bias": "all" if bias else "none",
    }
    weights = norm | {
        "body.conv.taps": take(f"{at}conv.weight").then(flat_taps, deep_taps),
        "body.project_in.weight": take(f"{at}in_proj.weight"),
        "body.project_out.weight": take(f"{at}out_proj.weight"),
    }
    if bias:
        weights |= {
            "body.conv.bias": take(f"{at}conv.bias"),
            "body.project_in.bias": take(f"{at}in_proj.bias"),
            "body.project_out.bias": take(f"{at}out_proj.bias"),
        }
    return Part("short_conv", params, weights)


def _feed_forward(config: Fields, at: str) -> Part:
    name = "block_ff_dim" if config.given("block_ff_dim") else "intermediate_size"
    hidden = config.whole(name)
    adjusted = config.flag("block_auto_adjust_ff_dim")
    multiple = config.whole("block_multiple_of")
    stretch = config.raw("block_ffn_dim_multiplier") is not None
    factor = config.number("block_ffn_dim_multiplier", least=0) if stretch else 1.0
    if adjusted:
        hidden = int(2 * hidden / 3)
        if stretch:
            hidden = -(-int(factor * hidden) // multiple) * multiple
    feed = f"{at}feed_forward."
    weights = norm_weights(f"{at}ffn_norm") | {
        "body.project_in.weight": joined(f"{feed}w1.weight", f"{feed}w3.weight"),
        "body.project_out.weight": take(f"{feed}w2.weight"),
    }
    return Part("swiglu", {"ratio": ratio(config, hidden, name)}, weights)


@writes("lfm2", "Lfm2ForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of LFM2 holds for an architecture."""
    mixers, conv = of.order("attention", "short_conv"), of.given("short_conv")
    found = written.basics(of, len(mixers), eps="norm_eps") | written.heads(of) | written.rope(of)
    del found["attention_bias"]
    return found | {
        "layer_types": [LAYERS[mixer == "attention"] for mixer in mixers],
        "intermediate_size": written.hidden(of),
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": conv["kernel"],
        "conv_bias": conv["bias"] == "all",
    }
