"""Llama, and models that call themselves so: https://arxiv.org/abs/2302.13971."""

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
    final,
    norm_weights,
    swiglu,
    tied,
)
from hybridlab.architecture.importers.rotary import rotary

DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}


@family("llama", source="https://arxiv.org/abs/2302.13971", defaults=DEFAULTS)
def llama(config: Fields) -> Draft:
    """Read attention and a gated feed-forward layer, pre-norm, over and over."""
    return decoder(config, bias=config.flag("attention_bias"), mlp_bias=config.flag("mlp_bias"))


def decoder(
    config: Fields, *, bias: bool = False, mlp_bias: bool = False, window: int | None = None
) -> Draft:
    """Read what Llama and its nearest share."""
    eps, shared = config.number("rms_norm_eps", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "rms_norm", eps, unused=("*.rotary_emb.inv_freq",))
    if shared:
        draft.unused += ("lm_head.weight",)
    config.dropout("attention_dropout")
    positions = rotary(config)
    draft.before = [embedding(config, "model.embed_tokens.weight", tied=shared)]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"model.layers.{layer}."
        draft.layers.append(
            (
                attention(
                    config,
                    f"{at}self_attn.",
                    norm_weights(f"{at}input_layernorm"),
                    positions=positions,
                    bias=bias,
                    window=window,
                ),
                swiglu(
                    config,
                    f"{at}mlp.",
                    norm_weights(f"{at}post_attention_layernorm"),
                    bias=mlp_bias,
                ),
            )
        )
    draft.after = final(config, "rms_norm", "model.norm", eps, tied=shared)
    return draft


@writes("llama", "LlamaForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Llama holds for an architecture."""
    return decoder_fields(of) | {
        "attention_bias": of.given("attention")["bias"],
        "mlp_bias": of.given("swiglu")["bias"],
    }


def decoder_fields(of: NormalForm) -> dict[str, Any]:
    """Return what Llama and its nearest share."""
    found = written.basics(of, len(of.order("attention"))) | written.rope(of)
    found |= written.heads(of, always=True)
    del found["attention_bias"]
    return found | {"intermediate_size": written.hidden(of), "hidden_act": written.bend(of)}
