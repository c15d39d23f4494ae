"""The objectives of a search as axes: what they are called, in which unit they are drawn, and where better is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.search.landscape import Array, Objective
from hybridlab.units import (
    format_bytes,
    format_count,
    format_flops,
    format_joules,
    format_seconds,
)

_TITLES = {
    "params": "parameters",
    "flops_forward": "FLOPs forward",
    "flops_step": "FLOPs of a step",
    "peak_bytes": "peak memory",
    "activation_bytes": "activations",
    "peak_inference_bytes": "peak memory forward",
    "state_bytes_per_token": "state per token",
    "state_bytes": "state",
    "step_ms": "step time",
    "tokens_per_s": "throughput",
    "train_s": "training time",
    "measured_step_ms": "timed step",
    "measured_tokens_per_s": "timed throughput",
    "measured_latency_ms": "timed latency",
    "joules_per_sample": "energy per sample",
}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", "thousand", "million", "billion", "trillion")


@dataclass(frozen=True)
class Axis:
    """One objective as it is drawn: its values are divided by ``scale``, which makes them ``unit``."""

    name: str
    title: str
    unit: str
    scale: float
    source: str
    """Where its values come from."""
    larger: bool
    """Whether large values are good."""

    @property
    def label(self) -> str:
        """What stands at the axis: the name, where the values come from, and the unit."""
        return f"{self.title}, {self.source}" + (f" ({self.unit})" if self.unit else "")

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return "more is better" if self.larger else "less is better"


def title_of(name: str) -> str:
    """Return an objective's name as people read it."""
    return _TITLES.get(name, name.replace("_", " "))


def written(objective: Objective, value: float | None) -> str:
    """Write a value of an objective with its unit; a dash where there is none."""
    if value is None:
        return "–"
    if objective.unit == "bytes":
        return format_bytes(value)
    if objective.unit == "ms":
        return format_seconds(value / 1e3)
    if objective.unit == "s":
        return format_seconds(value)
    if objective.unit == "J":
        return format_joules(value)
    if objective.unit == "tokens/s":
        return f"{format_count(value)} tokens/s"
    if objective.unit == "FLOPs":
        return format_flops(value)
    if objective.unit == "parameters":
        return format_count(value)
    return f"{value:.4g}"


def axis_of(objective: Objective, values_N: Array) -> Axis:
    """Return an objective's axis for values that are to be drawn, in a unit that suits their size."""
    known = np.abs(values_N[np.isfinite(values_N)])
    typical = float(np.median(known)) if len(known) else 0.0
    unit, scale = objective.unit, 1.0
    if unit in ("bytes", "FLOPs", "parameters"):
        base, names = (1024.0, _BINARY) if unit == "bytes" else (1000.0, _DECIMAL)
        power = 0
        while typical >= base and power < len(names) - 1:
            typical, power = typical / base, power + 1
        scale = base**power
        unit = names[power] if unit == "bytes" else f"{names[power]} {unit}".strip()
        if objective.unit == "parameters":
            unit = names[power]
    return Axis(
        objective.name,
        title_of(objective.name),
        unit,
        scale,
        objective.source,
        objective.direction == "maximize",
    )
