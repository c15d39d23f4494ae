"""What each component of a profiled step took, measured beside predicted: the record, its bars and its diagram."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.architecture.spec import Architecture
from hybridlab.units import format_bytes, format_flops, format_joules, format_seconds
from hybridlab.views import style
from hybridlab.views.diagram import DiagramInfo
from hybridlab.views.measured_diagram import painted_info

_REPEAT = re.compile(r"\.\d+(?=\.|$)")
_MOST_BARS = 40


@dataclass(frozen=True)
class Part:
    """One component in a mean step; a predicted time is None where there is none, as for the loss.

    ``joules`` and ``grad_norm`` are None where they were not measured, ``device_ms`` where nothing ran on a device.
    """

    path: str
    ms: float
    predicted_ms: float | None
    forward_ms: float
    backward_ms: float
    share: float
    operators: int
    flops: int
    moved_bytes: int
    saved_bytes: int
    joules: float | None = None
    grad_norm: float | None = None
    device_ms: float | None = None

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read or written."""
        return self.flops / max(1, self.moved_bytes)


@dataclass(frozen=True)
class PartsInfo:
    """The components of a step in the order in which they first run."""

    parts: tuple[Part, ...]

    @property
    def dearest(self) -> Part | None:
        """The component that takes most of the time."""
        return max(self.parts, key=lambda part: part.ms, default=None)

    def table(self) -> pd.DataFrame:
        """Return a row a component, with units in the headings."""
        found = pd.DataFrame(
            {
                "component": [part.path for part in self.parts],
                "ms a step, measured": [part.ms for part in self.parts],
                "ms a step, predicted": pd.array(
                    [part.predicted_ms for part in self.parts], dtype="Float64"
                ),
                "share (%)": [100 * part.share for part in self.parts],
                "forward (ms)": [part.forward_ms for part in self.parts],
                "backward (ms)": [part.backward_ms for part in self.parts],
                "operators": [part.operators for part in self.parts],
                "FLOPs": [part.flops for part in self.parts],
                "moved (bytes)": [part.moved_bytes for part in self.parts],
                "FLOPs a byte": [part.intensity for part in self.parts],
                "kept for backward (bytes)": [part.saved_bytes for part in self.parts],
            }
        )
        more = {
            "on the device (ms)": [part.device_ms for part in self.parts],
            "gradient norm": [part.grad_norm for part in self.parts],
            "J a step, by time": [part.joules for part in self.parts],
        }
        for heading, values in more.items():
            if any(value is not None for value in values):
                found[heading] = pd.array(values, dtype="Float64")
        return found


def parts_info(figures: Mapping[str, Any]) -> PartsInfo:
    """Return the components of ``Profile.as_dict``."""
    return PartsInfo(
        tuple(
            Part(
                str(item["path"]),
                float(item["ms"]),
                None if item.get("predicted_ms") is None else float(item["predicted_ms"]),
                float(item["forward_ms"]),
                float(item["backward_ms"]),
                float(item["share"]),
                int(item["operators"]),
                int(item["flops"]),
                int(item["bytes_read"]) + int(item["bytes_written"]),
                int(item["saved_bytes"]),
                *(_known(item.get(name)) for name in ("joules", "grad_norm", "device_ms")),
            )
            for item in figures.get("components", ())
        )
    )


def _known(value: float | None) -> float | None:
    return None if value is None else float(value)


def parts_plot(info: PartsInfo) -> go.Figure:
    """Draw two bars a component: measured time filled, forward and backward apart, and predicted hatched."""
    parts = info.parts
    left_out = 0
    if len(parts) > _MOST_BARS:
        kept = {id(part) for part in sorted(parts, key=lambda part: -part.ms)[:_MOST_BARS]}
        parts, left_out = tuple(part for part in parts if id(part) in kept), len(parts) - _MOST_BARS
    names = [style.plain(part.path) for part in parts]
    rest = [max(0.0, part.ms - part.forward_ms - part.backward_ms) for part in parts]
    measured = style.SOURCE_COLOURS["measured"]
    series: tuple[tuple[str, list[float | None], dict[str, Any], str], ...] = (
        ("forward, measured", [part.forward_ms for part in parts], {"color": measured}, "measured"),
        (
            "backward, measured",
            [part.backward_ms for part in parts],
            {"color": style.with_alpha(measured, 0.55)},
            "measured",
        ),
        ("update, measured", list(rest), {"color": style.NEUTRAL}, "measured"),
        (
            "predicted",
            [part.predicted_ms for part in parts],
            {
                "color": style.SOURCE_COLOURS["predicted"],
                "pattern": {"shape": style.BAR_PATTERN["predicted"], "size": 5, "solidity": 0.35},
            },
            "predicted",
        ),
    )
    figure = go.Figure()
    for name, values, marker, group in series:
        figure.add_trace(
            go.Bar(
                x=values,
                y=names,
                orientation="h",
                name=name,
                marker=marker,
                offsetgroup=group,
                text=["" if value is None else format_seconds(value / 1e3) for value in values],
                textposition="none",
                hovertemplate=f"%{{y}}<br>{name}: %{{text}}<extra></extra>",
            )
        )
    dearest = info.dearest
    title = "Time of a step by component"
    if dearest is not None and dearest.ms:
        title = f"{style.plain(dearest.path)} takes {100 * dearest.share:.0f} % of the step"
    if left_out:
        title += f" ({left_out} smaller ones left out)"
    figure.update_layout(
        **style.layout(
            title, height=max(260, 34 * len(parts) + 130), barmode="relative", bargap=0.25
        )
    )
    figure.update_xaxes(title_text="ms a step", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


@dataclass(frozen=True)
class Quantity:
    """Something a diagram can be painted by: what it is of a sum of parts, and how it is written."""

    title: str
    source: str
    of: Callable[[Part], float | None]
    written: Callable[[float], str]


def _times(value: float) -> str:
    return f"× {value:.2f}"


QUANTITIES: Mapping[str, Quantity] = {
    "ms": Quantity(
        "Time of a step", "measured", lambda part: part.ms, lambda v: format_seconds(v / 1e3)
    ),
    "predicted_ms": Quantity(
        "Time of a step",
        "predicted",
        lambda part: part.predicted_ms,
        lambda v: format_seconds(v / 1e3),
    ),
    "ratio": Quantity(
        "Measured over predicted time",
        "both",
        lambda part: part.ms / part.predicted_ms if part.predicted_ms else None,
        _times,
    ),
    "flops": Quantity("FLOPs of a step", "measured", lambda part: part.flops, format_flops),
    "moved_bytes": Quantity(
        "Bytes read and written", "measured", lambda part: part.moved_bytes, format_bytes
    ),
    "intensity": Quantity(
        "Arithmetic intensity",
        "measured",
        lambda part: part.intensity,
        lambda v: f"{v:.3g} FLOP/byte",
    ),
    "saved_bytes": Quantity(
        "Kept for backward", "measured", lambda part: part.saved_bytes, format_bytes
    ),
    "device_ms": Quantity(
        "Time on the device of what it started",
        "measured",
        lambda part: part.device_ms,
        lambda v: format_seconds(v / 1e3),
    ),
    "joules": Quantity(
        "Energy of a step, shared out by time",
        "measured",
        lambda part: part.joules,
        format_joules,
    ),
    "grad_norm": Quantity(
        "Gradient norm of its weights",
        "measured",
        lambda part: part.grad_norm,
        lambda v: f"{v:.3g}",
    ),
}


def by_node(info: PartsInfo) -> dict[str, Part]:
    """Return the parts by path of ids: repeats of a group are summed, and a group is the sum of what it holds.

    The gradient of several is that of all their weights together: the root of the sum of squares.
    """
    found: dict[str, Part] = {}
    for part in info.parts:
        names = _REPEAT.sub("", part.path).split(".")
        for end in range(1, len(names) + 1):
            path = ".".join(names[:end])
            found[path] = _sum(path, found.get(path), part)
    return found


def _sum(path: str, one: Part | None, other: Part) -> Part:
    if one is None:
        return Part(path, *(getattr(other, name) for name in _FIELDS))

    def pair(name: str) -> list[float]:
        return [value for value in (getattr(one, name), getattr(other, name)) if value is not None]

    sums: dict[str, Any] = {name: sum(pair(name)) if pair(name) else None for name in _FIELDS}
    if norms := pair("grad_norm"):
        sums["grad_norm"] = math.hypot(*norms)
    return Part(path=path, **sums)


_FIELDS = (
    "ms",
    "predicted_ms",
    "forward_ms",
    "backward_ms",
    "share",
    "operators",
    "flops",
    "moved_bytes",
    "saved_bytes",
    "joules",
    "grad_norm",
    "device_ms",
)


def painted_by(
    diagram: DiagramInfo, architecture: Architecture, parts: Mapping[str, Part], name: str
) -> DiagramInfo:
    """Return a diagram whose boxes say a quantity of ``QUANTITIES`` and are coloured by it."""
    quantity = QUANTITIES[name]
    values = {path: quantity.of(part) for path, part in parts.items()}
    known = {path: float(value) for path, value in values.items() if value is not None}
    title = f"{quantity.title}, {'measured and predicted' if quantity.source == 'both' else quantity.source}"
    return painted_info(diagram, architecture, title, known, quantity.written)
