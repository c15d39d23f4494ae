"""Bamba: Mamba-2 with an attention layer here and there; https://huggingface.co/blog/bamba."""

from __future__ import annotations

import math
from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    attention,
    embedding,
    final,
    mamba2_of,
    norm_weights,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary

DEFAULTS = {
    "vocab_size": 128000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 262144,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "attention_dropout": 0.0,
    "attention_bias": False,
    "attn_layer_indices": None,
    "mamba_n_heads": 128,
    "mamba_d_head": "auto",
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "time_step_limit": (0.0, math.inf),
}


@family("bamba", source="https://huggingface.co/blog/bamba", defaults=DEFAULTS)
def bamba(config: Fields) -> Draft:
    """Read Mamba-2 or attention, then a gated feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    positions, bias = rotary(config, 0.5), config.flag("attention_bias")
    attending = set(config.listed("attn_layer_indices"))
    config.passed("layers_block_type", "layer_types")  # what the indices say already
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"model.layers.{layer}."
        norm = norm_weights(f"{at}input_layernorm")
        mixer = (
            attention(config, f"{at}self_attn.", norm, positions=positions, bias=bias)
            if layer in attending
            else mamba2_of(config, f"{at}mamba.", norm, eps=eps)
        )
        feed = swiglu(
            config,
            f"{at}feed_forward.",
            norm_weights(f"{at}pre_ff_layernorm"),
            bias=config.flag("mlp_bias"),
        )
        draft.layers.append((mixer, feed))
    draft.after = final(config, "rms_norm", "model.final_layernorm", eps, tied=shared)
    return draft


@writes("bamba", "BambaForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Bamba holds for an architecture."""
    mixers = of.order("attention", "mamba2")
    found = written.basics(of, len(mixers)) | written.heads(of) | written.rope(of)
    return found | {
        **written.mamba2(of),
        "attn_layer_indices": [at for at, mixer in enumerate(mixers) if mixer == "attention"],
        "intermediate_size": written.hidden(of),
        "hidden_act": written.bend(of),
        "mlp_bias": of.given("swiglu")["bias"],
    }
