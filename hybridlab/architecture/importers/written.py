"""What most families share on the way back: fields of a ``config.json`` from the parts of an architecture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.importers.normal_form import NormalForm
from hybridlab.architecture.importers.parts import ACTIVATIONS
from hybridlab.components.channel_mixers.hidden_size import hidden_size

_BENDS = {ours: published for published, ours in reversed(ACTIVATIONS.items())}


def basics(
    of: NormalForm, layers: int, *, eps: str | None = "rms_norm_eps", scaled: bool = False
) -> dict[str, Any]:
    """Return vocabulary, width, depth, what norms add, and whether the head shares the table."""
    table, head = of.given("token_embedding"), of.given("lm_head")
    found: dict[str, Any] = {
        "vocab_size": table["vocab"],
        "hidden_size": of.width,
        "num_hidden_layers": max(1, layers),
        "tie_word_embeddings": head["tied"],
    }
    if eps is not None:
        found[eps] = of.norm_eps
    if head["tied"]:
        found["initializer_range"] = table["std"]
    if scaled:
        found["embedding_multiplier"] = table["scale"]
    return found


def heads(of: NormalForm, *, always: bool = False) -> dict[str, Any]:
    """Return the heads of attention, and their size where it is not their share of the width (or ``always``)."""
    told = of.given("attention")
    count = told["heads"]
    found = {
        "num_attention_heads": count,
        "num_key_value_heads": told["kv_heads"] or count,
        "attention_bias": told["bias"],
    }
    size = told["head_dim"] or of.width // count
    if always or size * count != of.width:
        found["head_dim"] = size
    return found


def rope(of: NormalForm) -> dict[str, Any]:
    """Return rotary positions: base, the share that turns, and how turns are slowed."""
    told = of.given("attention")
    kind = told["rotary_scaling"]
    found: dict[str, Any] = {
        "rope_type": {"none": "default", "yarn_exact": "yarn"}.get(kind, kind),
        "rope_theta": told["rotary_base"],
    }
    if told["rotary_share"] != 1:
        found["partial_rotary_factor"] = told["rotary_share"]
    if kind != "none":
        found["factor"] = told["rotary_factor"]
    slow, fast = ("beta_slow", "beta_fast")
    if kind == "llama3":
        slow, fast = ("low_freq_factor", "high_freq_factor")
    if kind in ("llama3", "yarn", "yarn_exact"):
        usual = 4.0 if kind == "llama3" else 32.0
        found |= {
            "original_max_position_embeddings": told["rotary_trained"],
            slow: told["rotary_slow"],
            fast: told["rotary_fast"] or usual,
        }
    if kind == "yarn_exact":
        found["truncate"] = False
    if kind.startswith("yarn") and told["rotary_magnitude"] is not None:
        found["attention_factor"] = told["rotary_magnitude"]
    return {"rope_parameters": found}


def hidden(of: NormalForm, op: str = "swiglu", name: str = "ratio") -> int:
    """Return the hidden features of a channel mixer."""
    return hidden_size(of.given(op)[name], of.width)


def bend(of: NormalForm, op: str = "swiglu", name: str = "gate") -> str:
    """Return the published name of a channel mixer's bend; that of SiLU where nothing published bends so."""
    return _BENDS.get(str(of.given(op)[name]), "silu")


def summed_to_one(moe: Mapping[str, Any]) -> bool:
    """Say whether the weights of the experts that a position chose are made to sum to one."""
    return bool(moe["weights"] == "normalised" or (moe["weights"] == "auto" and moe["top_k"] > 1))


def mamba2(of: NormalForm) -> dict[str, Any]:
    """Return a Mamba-2 block's sizes as the hybrids name them."""
    told = of.given("mamba2")
    return {
        "mamba_n_heads": told["heads"],
        "mamba_d_head": head_size(of),
        "mamba_n_groups": told["groups"],
        "mamba_d_state": told["state"],
        "mamba_d_conv": told["conv"],
        "mamba_expand": expand(of),
        "mamba_chunk_size": told["chunk"],
        "mamba_conv_bias": told["conv_bias"],
        "mamba_proj_bias": told["bias"],
        **step_limits(told),
    }


def head_size(of: NormalForm) -> int:
    """Return the features of a head of Mamba-2."""
    told = of.given("mamba2")
    return int(told["head_dim"] or told["expand"] * of.width // told["heads"])


def expand(of: NormalForm) -> int:
    """Return the inner features of Mamba-2 per feature of the width; what was said, where that is no whole number."""
    told = of.given("mamba2")
    whole, rest = divmod(told["heads"] * head_size(of), of.width)
    return int(told["expand"] if rest or not whole else whole)


def step_limits(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of steps, where there are some."""
    low, high = told["step_min"], told["step_max"]
    if not low and high is None:
        return {}
    top = {"__float__": "Infinity"} if high is None else high
    return {"time_step_limit": [low, top]}


def turns(kinds: list[str], wanted: set[str], name: str) -> dict[str, Any]:
    """Return after how many layers a kind comes again, and the first layer of it.

    A kind that comes once comes again after the last layer, one that never comes after more layers than there are.
    """
    at = [index for index, kind in enumerate(kinds) if kind in wanted]
    if not at:
        return {f"{name}_period": len(kinds) + 1, f"{name}_offset": len(kinds)}
    period = math.gcd(*(b - a for a, b in itertools.pairwise(at))) or len(kinds)
    return {f"{name}_period": max(period, at[0] + 1), f"{name}_offset": at[0]}
