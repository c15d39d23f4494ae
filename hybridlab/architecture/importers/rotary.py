"""Reads rotary positions: base, the share of a head that turns, and how turns are slowed for long texts."""

from __future__ import annotations

import math
from typing import Any

from hybridlab.architecture.importers.fields import Fields

SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}


def rotary(config: Fields, share: float = 1.0, base: float | None = None) -> dict[str, Any]:
    """Return the parameters of rotary positions; kinds of scaling that nothing here computes are refused.

    They stand in ``rope_parameters``, and in older configs in ``rope_scaling``, ``rope_theta`` and
    ``partial_rotary_factor``; ``share`` and ``base`` are the family's own.
    """
    if base is None or config.given("rope_theta"):
        base = config.number("rope_theta", least=1)
    if config.raw("partial_rotary_factor") is not None:
        share = config.number("partial_rotary_factor")
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        if not config.given(name):
            config.raw(name)
            continue
        section = config.section(name)
        if section.given("rope_theta"):
            base = section.number("rope_theta", least=1)
        if section.given("partial_rotary_factor"):
            share = section.number("partial_rotary_factor")
        found |= _scaling(config, section)
    return {"rotary_base": base} | ({} if share == 1 else {"rotary_share": share}) | found


def _scaling(config: Fields, section: Fields) -> dict[str, Any]:
    """Return the parameters of one kind of scaling; none for the default."""
    kind = "none"
    for word in ("type", "rope_type"):
        if section.given(word):
            kind = section.choice(word, SCALINGS)
    if section.problems:
        section.passed()  # what else a kind says that is not built is of no use
    if kind == "none":
        return {}
    found: dict[str, Any] = {
        "rotary_scaling": kind,
        "rotary_factor": section.number("factor", least=1),
    }
    if kind == "linear":
        return found
    trained = "original_max_position_embeddings"
    holder = section if section.given(trained) else config
    found["rotary_trained"] = holder.whole(
        trained if holder.given(trained) else "max_position_embeddings"
    )
    slow, fast = ("low_freq_factor", "high_freq_factor")
    if kind == "yarn":
        slow, fast = "beta_slow", "beta_fast"
        if section.given("truncate") and not section.flag("truncate"):
            found["rotary_scaling"] = "yarn_exact"
        found |= _magnitude(section, found["rotary_factor"])
    for name, ours in ((slow, "rotary_slow"), (fast, "rotary_fast")):
        if section.given(name):
            found[ours] = section.number(name)
    return found


def _magnitude(section: Fields, factor: float) -> dict[str, float]:
    """Return yarn's factor on what was turned, where it is not the usual one."""
    if section.given("attention_factor"):
        section.passed("mscale", "mscale_all_dim")
        return {"rotary_magnitude": section.number("attention_factor")}
    section.passed("mscale", "mscale_all_dim")
    if not (section.given("mscale") and section.given("mscale_all_dim")):
        return {}
    over, under = (
        1 + 0.1 * section.number(name) * math.log(factor) for name in ("mscale", "mscale_all_dim")
    )
    return {"rotary_magnitude": over / under}
