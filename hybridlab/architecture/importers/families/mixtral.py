"""Mixtral: https://arxiv.org/abs/2401.04088."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import (
    attention,
    embedding,
    experts,
    final,
    norm_weights,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary

DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000_000.0,
    "rope_parameters": None,
    "sliding_window": None,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
}


@family("mixtral", source="https://arxiv.org/abs/2401.04088", defaults=DEFAULTS)
def mixtral(config: Fields) -> Draft:
    """Read attention and experts, pre-norm, over and over."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.only("hidden_act", "silu", "swish")
    config.dropout("attention_dropout", "router_jitter_noise")
    positions = rotary(config)
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"model.layers.{layer}."
        places = (f"{at}mlp.", f"{at}block_sparse_moe.")
        draft.layers.append(
            (
                attention(
                    config,
                    f"{at}self_attn.",
                    norm_weights(f"{at}input_layernorm"),
                    positions=positions,
                    window=config.maybe_whole("sliding_window"),
                ),
                experts(
                    config,
                    norm_weights(f"{at}post_attention_layernorm"),
                    count=config.whole("num_local_experts"),
                    top_k=config.whole("num_experts_per_tok"),
                    router=tuple(f"{place}gate.weight" for place in places),
                    at=tuple(f"{place}experts." for place in places),
                    balance=config.number("router_aux_loss_coef", least=0),
                ),
            )
        )
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared)
    return draft


@writes("mixtral", "MixtralForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Mixtral holds for an architecture."""
    moe = of.given("moe")
    found = written.basics(of, len(of.order("attention"))) | written.rope(of)
    found |= written.heads(of, always=True)
    del found["attention_bias"]
    return found | {
        "sliding_window": of.given("attention")["window"],
        "intermediate_size": written.hidden(of, "moe"),
        "num_local_experts": moe["experts"],
        "num_experts_per_tok": moe["top_k"],
        "router_aux_loss_coef": moe["balance_weight"],
    }
