"""An architecture's diagram with what a training measured of each part: as words in the boxes, and as their colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hybridlab.architecture.spec import Architecture
from hybridlab.training import flow
from hybridlab.views.diagram import Box, DiagramInfo

QUANTITIES = {name: quantity.title for name, quantity in flow.QUANTITIES.items()} | {
    "expert_load": "Expert load"
}
"""What is measured of components while they train."""
Value = float | Sequence[float]


def measured_info(
    info: DiagramInfo, architecture: Architecture, quantity: str, values: Mapping[str, Value]
) -> DiagramInfo:
    """Return a diagram in which each box says its value; ``values`` are by path of ids, loads one share an expert.

    The colour is on a logarithmic scale from the smallest to the largest, for loads from even to all to one expert.
    """
    return painted_info(info, architecture, f"{QUANTITIES[quantity]}, measured", values, _words)


def painted_info(
    info: DiagramInfo,
    architecture: Architecture,
    title: str,
    values: Mapping[str, Value],
    written: Callable[[Any], str],
) -> DiagramInfo:
    """Return a diagram whose boxes say a value by path of ids, coloured by it; ``title`` says what and from where."""
    ids = {path: names for path, names, _ in architecture.walk()}
    ends = _ends(values)

    def shown(box: Box) -> Box:
        value = values.get(ids.get(box.path, box.path.removeprefix("task.")))
        if value is None or box.kind == "group":
            return replace(box, detail="") if box.kind != "group" else box
        words = written(value)
        return replace(
            box, detail=words, told=f"{title}: {words}", tint=_tint(value, ends), supplied=False
        )

    return replace(info, boxes=tuple(map(shown, info.boxes)))


def _words(value: Value) -> str:
    if isinstance(value, (int, float)):
        return f"{value:.3g}"
    return f"{' '.join(f'{100 * share:.0f}' for share in value)} %"


def _ends(values: Mapping[str, Value]) -> tuple[float, float]:
    """Return the smallest and the largest single value of parts that hold no other."""
    groups = {path.rpartition(".")[0] for path in values}
    single = [
        value
        for path, value in values.items()
        if path not in groups and isinstance(value, (int, float)) and value > 0
    ]
    return (min(single), max(single)) if single else (0.0, 0.0)


def _tint(value: Value, ends: tuple[float, float]) -> float:
    """Return how strong a colour is, 0 to 1."""
    if not isinstance(value, (int, float)):
        even = 1 / len(value) if value else 1.0
        return max(0.0, (max(value) - even) / (1 - even)) if even < 1 else 0.0
    low, high = ends
    if value <= 0 or low <= 0:
        return 0.0
    if high / low < 1.0001:
        return 0.5
    return max(0.04, min(1.0, math.log(value / low) / math.log(high / low)))
