"""How a run's energy is said in words, the same on pages, in terminals and in notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.units import format_joules


def energy_words(energy: Mapping[str, Any]) -> str:
    """Say what a run's result holds of energy in one line: measured with its sources, or not measured and why.

    A figure modelled from stated watts is not in it: ``modelled_words`` says it, apart.
    """
    if not energy:
        return "not measured: the run did not look for a meter"
    if energy.get("joules") is None:
        return f"not measured: {energy.get('not_measured') or 'no reason was noted'}"
    sources = ", ".join(f"{one['source']} ({one['covers']})" for one in energy["sources"])
    text = f"{format_joules(energy['joules'])} measured by {sources}"
    if (each := _each(energy)) != "":
        text += f", {each}"
    if energy.get("net_joules") is not None:
        seconds = energy["idle_seconds"]
        idle = ", ".join(f"{one['idle_w']:.3g} W" for one in energy["sources"])
        text += (
            f"; {format_joules(energy['net_joules'])} without idle power "
            f"({idle}, measured for {seconds:.3g} s before)"
        )
    else:
        text += "; idle power was not measured and is in it"
    if energy.get("caution"):
        text += f"; {energy['caution']}"
    return text


def modelled_words(energy: Mapping[str, Any]) -> str:
    """Say a modelled energy, with what it is modelled from; empty where none was asked for."""
    modelled = energy.get("modelled")
    if not modelled:
        return ""
    text = f"{format_joules(modelled['joules'])} modelled from {modelled['stated_w']:g} W that you stated"
    each = _each(modelled)
    return f"{text}, {each}" if each else text


def _each(figures: Mapping[str, Any]) -> str:
    names = ("step", "sample", "token")
    known = [(name, figures.get(f"joules_per_{name}")) for name in names]
    return ", ".join(
        f"{format_joules(value)} a {name}" for name, value in known if value is not None
    )
