"""What of a training's settings its estimate leaves out, and what was measured of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.errors import HybridLabError
from hybridlab.planning.precision.record import Precisions
from hybridlab.units import format_bytes

_WORDS = {
    "fusion": "the fusion",
    "tuning": "the tuning",
    "precisions": "the formats of single components",
    "regions": "what runs compiled",
}


def left_out(settings: Mapping[str, Any]) -> str:
    """Say which of the settings the predicted time and memory leave out; nothing where they leave out none."""
    names = [words for name, words in _WORDS.items() if settings.get(name)]
    if settings.get("precision") in ("bfloat16", "float16"):
        names.append(f"arithmetic in {settings['precision']}")
    if not names:
        return ""
    both = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    if not settings.get("plan"):
        return f"Predicted without {both}, which these settings have." + _measured(settings)
    said = f"The time is predicted without {both}, which these settings have; the memory is the plan's."
    if settings.get("precisions"):
        said += " A plan knows nothing of formats of single components."
    return said + _measured(settings)


def _measured(settings: Mapping[str, Any]) -> str:
    """Say what a step with these formats was measured to take, where it was."""
    try:
        measured = Precisions.read(settings.get("precisions") or {}).measured
    except HybridLabError:
        return ""
    if measured is None:
        return ""
    kept, before = (
        format_bytes(size) for size in (measured.saved_bytes, measured.plain_saved_bytes)
    )
    return (
        f" Where these formats were measured, a step took {measured.time:.2f} times its time without them and kept "
        f"{kept} for backward instead of {before}."
    )
