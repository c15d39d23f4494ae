"""Mamba-2: https://arxiv.org/abs/2405.21060."""

from __future__ import annotations

import math
from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    embedding,
    final,
    mamba2,
    norm_weights,
    tied,
)

DEFAULTS = {
    "vocab_size": 32768,
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    "num_heads": 128,
    "head_dim": 64,
    "state_size": 128,
    "n_groups": 8,
    "expand": 2,
    "conv_kernel": 4,
    "chunk_size": 256,
    "layer_norm_epsilon": 1e-5,
    "hidden_act": "silu",
    "initializer_range": 0.1,
    "use_bias": False,
    "use_conv_bias": True,
    "tie_word_embeddings": False,
    "time_step_limit": (0.0, math.inf),
}
# How weights start and in which precision the residual is kept, not what is computed.
HARMLESS = {
    *("time_step_rank", "time_step_min", "time_step_max", "time_step_floor"),
    *("rescale_prenorm_residual", "residual_in_fp32", "norm_before_gate", "rms_norm"),
}


@family("mamba2", source="https://arxiv.org/abs/2405.21060", defaults=DEFAULTS, harmless=HARMLESS)
def read(config: Fields) -> Draft:
    """Read Mamba-2 blocks, pre-norm, over and over."""
    eps, shared = config.number("layer_norm_epsilon", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps)
    if shared:
        draft.unused += ("lm_head.weight",)
    config.only("hidden_act", "silu", "swish")
    heads, size = config.whole("num_heads"), config.whole("head_dim")
    draft.before = [embedding(config, "backbone.embeddings.weight", tied=shared)]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"backbone.layers.{layer}."
        block = mamba2(
            config,
            f"{at}mixer.",
            norm_weights(f"{at}norm"),
            heads=heads,
            head_dim=size,
            state=config.whole("state_size"),
            groups=config.whole("n_groups"),
            expand=config.whole("expand"),
            conv=config.whole("conv_kernel"),
            chunk=config.whole("chunk_size", least=2),
            eps=eps,
            bias=config.flag("use_bias"),
            conv_bias=config.flag("use_conv_bias"),
        )
        draft.layers.append([block])
    draft.after = final(config, "rms_norm", "backbone.norm_f", eps, tied=shared)
    return draft


@writes("mamba2", "Mamba2ForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Mamba-2 holds for an architecture."""
    told = of.given("mamba2")
    return written.basics(of, len(of.order("mamba2")), eps="layer_norm_epsilon") | {
        "num_heads": told["heads"],
        "head_dim": written.head_size(of),
        "state_size": told["state"],
        "n_groups": told["groups"],
        "expand": written.expand(of),
        "conv_kernel": told["conv"],
        "chunk_size": told["chunk"],
        "use_bias": told["bias"],
        "use_conv_bias": told["conv_bias"],
        **written.step_limits(told),
    }
