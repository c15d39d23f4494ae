"""Granite 4: Mamba-2 and attention without positions, experts beside a shared one; multipliers everywhere."""

from __future__ import annotations

import math
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
    mamba2_of,
    norm_weights,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary
from hybridlab.architecture.spec import INPUT, Residual

DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "position_embedding_type": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "embedding_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": 1.0,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.001,
    "shared_intermediate_size": 1024,
    "layer_types": None,
    "mamba_n_heads": 128,
    "mamba_d_head": "auto",
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "tie_word_embeddings": False,
    "time_step_limit": (0.0, math.inf),
}
ATTENTION = {"attention", "full_attention"}
LAYERS = {*ATTENTION, "mamba", "linear_attention"}
HARMLESS = {"init_method", "normalization_function"}


@family(
    "granitemoehybrid",
    source="https://huggingface.co/collections/ibm-granite/granite-40-language-models",
    defaults=DEFAULTS,
    harmless=HARMLESS,
)
def granitemoehybrid(config: Fields) -> Draft:
    """Read Mamba-2 or attention, then experts beside a feed-forward layer, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    config.only("position_embedding_type", None, "rope", "nope")
    turning = rotary(config)
    positions = turning if config.raw("position_embedding_type") == "rope" else {"rotary": False}
    factor = config.number("residual_multiplier")
    draft.before = [
        embedding(
            config,
            "model.embed_tokens.weight",
            tied=shared,
            scale=config.number("embedding_multiplier"),
        )
    ]
    for layer, kind in enumerate(_layers(config)):
        at = f"model.layers.{layer}."
        norm = norm_weights(f"{at}input_layernorm")
        mixer = (
            attention(
                config,
                f"{at}self_attn.",
                norm,
                positions=positions,
                bias=config.flag("attention_bias"),
                score_scale=config.number("attention_multiplier"),
                out_scale=factor,
            )
            if kind in ATTENTION
            else mamba2_of(config, f"{at}mamba.", norm, eps=eps, out_scale=factor)
        )
        draft.layers.append([mixer, _feed_forward(config, at, factor)])
    scale = 1 / config.number("logits_scaling", least=1e-6)
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared, scale=scale)
    return draft


def _layers(config: Fields) -> list[str]:
    count = config.whole("num_hidden_layers")
    name = "layers_block_type" if config.given("layers_block_type") else "layer_types"
    kinds = config.listed(name) or ["mamba"] * count
    if len(kinds) != count or not set(map(str, kinds)) <= LAYERS:
        config.refuse(
            name, "does not name each layer's kind", f"{count} of {', '.join(sorted(LAYERS))}"
        )
    return list(map(str, kinds))


def _feed_forward(config: Fields, at: str, factor: float) -> Part:
    norm = norm_weights(f"{at}post_attention_layernorm")
    count = config.whole("num_local_experts", least=0)
    top_k = config.whole("num_experts_per_tok", least=0)
    balance = config.number("router_aux_loss_coef", least=0)
    shared = swiglu(
        config,
        f"{at}shared_mlp.",
        norm if not count else {},
        field="shared_intermediate_size",
        fused="input_linear",
        names=("", "", "output_linear"),
        out_scale=factor,
    )
    if not count:
        config.raw("intermediate_size")
        return shared
    moe = experts(
        config,
        {},
        count=count,
        top_k=top_k,
        router=(f"{at}block_sparse_moe.router.weight", f"{at}block_sparse_moe.router.layer.weight"),
        at=(f"{at}block_sparse_moe.experts.", f"{at}block_sparse_moe."),
        fused=("gate_up_proj", "input_linear.weight"),
        fused_out=("down_proj", "output_linear.weight"),
        balance=balance,
        out_scale=factor,
    )
    none = Residual.NONE
    return Part(
        id="experts",
        residual=Residual.PRE,
        weights=norm,
        parts=(
            Part("moe", moe.params, moe.weights, id="moe", inputs=(INPUT,), residual=none),
            Part(
                "swiglu", shared.params, shared.weights, id="shared", inputs=(INPUT,), residual=none
            ),
            Part("sum", id="join", inputs=("moe", "shared")),
        ),
    )


@writes(
    "granitemoehybrid",
    "GraniteMoeHybridForCausalLM",
    folded=("attention_multiplier", "residual_multiplier"),
)
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Granite 4 holds for an architecture."""
    mixers, moe, told = of.order("attention", "mamba2"), of.given("moe"), of.given("attention")
    many = "moe" in of.order("moe")
    found = written.basics(of, len(mixers), scaled=True) | written.heads(of)
    size = found.get("head_dim") or of.width // told["heads"]
    return found | {
        **written.rope(of),
        **written.mamba2(of),
        "position_embedding_type": "rope" if told["rotary"] else None,
        "attention_multiplier": size**-0.5,
        "residual_multiplier": 1.0,
        "logits_scaling": 1 / of.given("lm_head")["scale"],
        "layer_types": ["attention" if one == "attention" else "mamba" for one in mixers],
        "shared_intermediate_size": written.hidden(of),
        "hidden_act": written.bend(of),
        "intermediate_size": written.hidden(of, "moe"),
        "num_local_experts": moe["experts"] if many else 0,
        "num_experts_per_tok": moe["top_k"] if many else 0,
        "router_aux_loss_coef": moe["balance_weight"],
    }
