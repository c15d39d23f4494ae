"""Mistral: https://arxiv.org/abs/2310.06825."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.importers.draft import Draft
from hybridlab.architecture.importers.families.llama import decoder, decoder_fields
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm

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
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "sliding_window": 4096,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
}


@family("mistral", source="https://arxiv.org/abs/2310.06825", defaults=DEFAULTS)
def mistral(config: Fields) -> Draft:
    """Read a Llama whose attention looks at a window."""
    return decoder(config, window=config.maybe_whole("sliding_window"))


@writes("mistral", "MistralForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of Mistral holds for an architecture."""
    return decoder_fields(of) | {"sliding_window": of.given("attention")["window"]}
