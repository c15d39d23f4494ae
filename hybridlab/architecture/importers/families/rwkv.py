"""RWKV-4: https://arxiv.org/abs/2305.13048."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hybridlab.architecture.importers import written
from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.importers.fields import Fields
from hybridlab.architecture.importers.huggingface import family, writes
from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import embedding, final, norm_weights, ratio, tied
from hybridlab.architecture.importers.weights import Take, take

DEFAULTS = {
    "vocab_size": 50277,
    "context_length": 1024,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "attention_hidden_size": None,
    "intermediate_size": None,
    "layer_norm_epsilon": 1e-5,
    "rescale_every": 6,
    "tie_word_embeddings": False,
}
# Halving what runs through the layers keeps 16-bit numbers small; norms undo it.
HARMLESS = {"context_length", "rescale_every"}
FINAL_EPS = 1e-5
TABLE_STD = 1e-4


@family("rwkv", source="https://arxiv.org/abs/2305.13048", defaults=DEFAULTS, harmless=HARMLESS)
def rwkv(config: Fields) -> Draft:
    """Read a time mix and a channel mix, pre-norm, over and over, with a norm of the embedding before."""
    eps, shared = config.number("layer_norm_epsilon", least=0), tied(config)
    draft = Draft(config.whole("hidden_size"), "layer_norm", eps)
    tokens = embedding(config, "rwkv.embeddings.weight")
    if shared:
        draft.unused += ("head.weight",)
        tokens.params["std"] = TABLE_STD
    norm = norm_weights("rwkv.blocks.0.pre_ln", bias=True, prefix="body.")
    draft.before = [tokens, Part("layer_norm", {"eps": eps}, norm, id="first_norm")]
    for layer in range(config.whole("num_hidden_layers")):
        at = f"rwkv.blocks.{layer}."
        draft.layers.append((_time_mix(config, at), _channel_mix(config, at)))
    draft.after = final(
        config, "layer_norm", "rwkv.ln_out", FINAL_EPS, heads=("head",), tied=shared
    )
    return draft


def _mixed(at: str, *parts: str) -> dict[str, Take]:
    """Return linear maps of a mix of the input and the one before it; files keep the input's share."""
    found = {}
    for part in parts:
        found[f"body.{part}.weight"] = take(f"{at}{part}.weight")
        found[f"body.{part}_shift"] = take(f"{at}time_mix_{part}").then(_others, _shares)
    return found


def _others(share: Tensor) -> Tensor:
    return 1 - share.flatten()


def _shares(others: Tensor) -> Tensor:
    return (1 - others).view(1, 1, -1)


def _time_mix(config: Fields, at: str) -> Part:
    params: dict[str, Any] = {}
    hidden = config.maybe_whole("attention_hidden_size")
    if hidden not in (None, config.whole("hidden_size")):
        params["hidden"] = hidden
    weights = norm_weights(f"{at}ln1", bias=True) | _mixed(
        f"{at}attention.", "key", "value", "receptance"
    )
    weights |= {
        "body.log_rate": take(f"{at}attention.time_decay"),
        "body.bonus": take(f"{at}attention.time_first"),
        "body.project_out.weight": take(f"{at}attention.output.weight"),
    }
    return Part("rwkv4", params, weights)


def _channel_mix(config: Fields, at: str) -> Part:
    name = "intermediate_size"
    hidden = config.maybe_whole(name) or 4 * config.whole("hidden_size")
    weights = norm_weights(f"{at}ln2", bias=True) | _mixed(
        f"{at}feed_forward.", "key", "receptance"
    )
    weights["body.value.weight"] = take(f"{at}feed_forward.value.weight")
    return Part("rwkv_channel_mix", {"ratio": ratio(config, hidden, name)}, weights)


@writes("rwkv", "RwkvForCausalLM")
def fields(of: NormalForm) -> dict[str, Any]:
    """Return what a config of RWKV-4 holds for an architecture."""
    found = written.basics(of, len(of.order("rwkv4")), eps="layer_norm_epsilon")
    found.pop("initializer_range", None)
    return found | {
        "attention_hidden_size": of.given("rwkv4")["hidden"] or of.width,
        "intermediate_size": written.hidden(of, "rwkv_channel_mix"),
    }
