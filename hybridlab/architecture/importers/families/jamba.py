"""Jamba: Mamba with an attention layer here and there, experts in every other layer; https://arxiv.org/abs/2403.19887."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    attention,
    embedding,
    experts,
    final,
    mamba,
    norm_weights,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.weights import Take, take

DEFAULTS = {
    "vocab_size": 65536,
    "tie_word_embeddings": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "router_aux_loss_coef": 0.001,
    "attention_dropout": 0.0,
    "num_experts_per_tok": 2,
    "num_experts": 16,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": "auto",
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
# In which way the same is computed, and what the periods say already.
HARMLESS = {
    *("use_mamba_kernels", "use_mambapy", "use_associative_scan"),
    *("calc_logits_for_entire_prompt", "layers_block_type", "layer_types", "layers_num_experts"),
}


@family("jamba", source="https://arxiv.org/abs/2403.19887", defaults=DEFAULTS, harmless=HARMLESS)
def jamba(config: Fields) -> Draft:
    """Read Mamba or attention without positions, then one gated layer or experts, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps)
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    config.only("hidden_act", "silu", "swish")
    config.only("sliding_window", None)
    config.only("mamba_inner_layernorms", None, True)
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    attending, choosing = _turns(config, "attn_layer"), _turns(config, "expert_layer")
    for layer in range(config.whole("num_hidden_layers")):
        at = f"model.layers.{layer}."
        norm = norm_weights(f"{at}input_layernorm")
        mixer = (
            attention(config, f"{at}self_attn.", norm, positions={"rotary": False})
            if layer % attending[0] == attending[1]
            else _mamba(config, f"{at}mamba.", norm, eps)
        )
        many = layer % choosing[0] == choosing[1] and config.whole("num_experts") > 1
        draft.layers.append([mixer, _feed_forward(config, at, many=many)])
    draft.after = final(config, "rms_norm", "model.final_layernorm", eps, tied=shared)
    return draft


def _turns(config: Fields, name: str) -> tuple[int, int]:
    """Return after how many layers a kind comes again, and the first layer of it."""
    return config.whole(f"{name}_period"), config.whole(f"{name}_offset", least=0)


def _mamba(config: Fields, at: str, norm: dict[str, Take], eps: float) -> Part:
    """Return a Mamba block that normalises what steps, writes and reads are made from."""
    part = mamba(
        config,
        at,
        norm,
        state=config.whole("mamba_d_state"),
        expand=config.whole("mamba_expand"),
        conv=config.whole("mamba_d_conv"),
        rank="mamba_dt_rank",
        bias=config.flag("mamba_proj_bias"),
        conv_bias=config.flag("mamba_conv_bias"),
    )
    scales = {
        "body.step_norm.scale": take(f"{at}dt_layernorm.weight"),
        "body.write_norm.scale": take(f"{at}b_layernorm.weight"),
        "body.read_norm.scale": take(f"{at}c_layernorm.weight"),
    }
    params = {"norms": True} | ({} if eps == 1e-6 else {"eps": eps})
    return replace(part, params=part.params | params, weights=part.weights | scales)


def _feed_forward(config: Fields, at: str, *, many: bool) -> Part:
    norm = norm_weights(f"{at}pre_ff_layernorm")
    top_k = config.whole("num_experts_per_tok")
    balance = config.number("router_aux_loss_coef", least=0)
    if not many:
        return swiglu(config, f"{at}feed_forward.", norm)
    return experts(
        config,
        norm,
        count=config.whole("num_experts"),
        top_k=top_k,
        router=(f"{at}feed_forward.router.weight",),
        at=(f"{at}feed_forward.experts.",),
        names=("gate_proj", "up_proj", "down_proj"),
        balance=balance,
        normalised=False,
    )


@writes("jamba", "JambaForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Jamba holds for an architecture."""
    mixers, feeds = of.order("attention", "mamba"), of.order("swiglu", "moe")
    told, moe = of.given("mamba"), of.given("moe")
    found = written.basics(of, len(mixers)) | written.heads(of)
    del found["attention_bias"]
    chosen = "moe" if "moe" in feeds else "swiglu"
    rank = told["step_rank"]
    return found | {
        "intermediate_size": written.hidden(of, chosen),
        **written.turns(mixers, {"attention"}, "attn_layer"),
        **written.turns(feeds, {"moe"}, "expert_layer"),
        "num_experts": moe["experts"] if "moe" in feeds else 1,
        "num_experts_per_tok": moe["top_k"] if "moe" in feeds else 1,
        "router_aux_loss_coef": moe["balance_weight"],
        "mamba_d_state": told["state"],
        "mamba_d_conv": told["conv"],
        "mamba_expand": told["expand"],
        "mamba_dt_rank": "auto" if rank is None else rank,
        "mamba_conv_bias": told["conv_bias"],
        "mamba_proj_bias": told["bias"],
    }
