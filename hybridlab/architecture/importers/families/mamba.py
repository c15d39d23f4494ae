"""Mamba: https://arxiv.org/abs/2312.00752."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import embedding, final, mamba, norm_weights, tied

DEFAULTS = {
    "vocab_size": 50280,
    "hidden_size": 768,
    "state_size": 16,
    "num_hidden_layers": 32,
    "layer_norm_epsilon": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "initializer_range": 0.1,
    "time_step_rank": "auto",
    "tie_word_embeddings": True,
}
# How weights start, in which way the same is computed, and what other fields say already.
HARMLESS = {
    *("time_step_scale", "time_step_min", "time_step_max", "time_step_floor"),
    *("time_step_init_scheme", "rescale_prenorm_residual", "residual_in_fp32"),
    *("use_mambapy", "use_associative_scan", "fused_add_norm", "rms_norm", "ssm_cfg"),
    *("d_inner", "d_model", "n_layer", "intermediate_size", "pad_vocab_size_multiple"),
}


@family("mamba", source="https://arxiv.org/abs/2312.00752", defaults=DEFAULTS, harmless=HARMLESS)
def read(config: Fields) -> Draft:
    """Read Mamba blocks, pre-norm, over and over."""
    eps, shared = config.number("layer_norm_epsilon", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps)
    if shared:
        draft.unused += ("lm_head.weight",)
    config.only("hidden_act", "silu", "swish")
    draft.before = [embedding(config, "backbone.embeddings.weight", tied=shared)]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"backbone.layers.{layer}."
        block = mamba(
            config,
            f"{at}mixer.",
            norm_weights(f"{at}norm"),
            state=config.whole("state_size"),
            expand=config.whole("expand"),
            conv=config.whole("conv_kernel"),
            rank="time_step_rank",
            bias=config.flag("use_bias"),
            conv_bias=config.flag("use_conv_bias"),
        )
        draft.layers.append([block])
    draft.after = final(config, "rms_norm", "backbone.norm_f", eps, tied=shared)
    return draft


@writes("mamba", "MambaForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Mamba holds for an architecture."""
    told = of.given("mamba")
    rank = told["step_rank"]
    return written.basics(of, len(of.order("mamba")), eps="layer_norm_epsilon") | {
        "state_size": told["state"],
        "expand": told["expand"],
        "intermediate_size": told["expand"] * of.width,
        "conv_kernel": told["conv"],
        "use_bias": told["bias"],
        "use_conv_bias": told["conv_bias"],
        "time_step_rank": "auto" if rank is None else rank,
    }
