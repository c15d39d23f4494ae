"""Memory of a trace over time: a curve a device, or bytes by category from a raw memory timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style
from hybridlab.views.bars import time_unit

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_CATEGORY_TITLES = {
    "parameter": "Parameters",
    "optimizer_state": "Optimiser state",
    "input": "Inputs",
    "temporary": "Temporary",
    "activation": "Activations",
    "gradient": "Gradients",
    "autograd_detail": "Autograd",
    "unknown": "Unknown",
}
_SAME_AS = {
    "parameter": "weights",
    "optimizer_state": "optimiser state",
    "input": "batch",
    "temporary": "forward work",
    "activation": "kept for backward",
    "gradient": "gradients",
    "autograd_detail": "backward work",
}
"""What the profiler's categories are called in an op stream; they have the same colours."""


def _byte_unit(largest: float) -> tuple[float, str]:
    """Return the bytes in a unit that suits a size, and the unit's name."""
    power = 0
    while largest >= 1024 and power < len(_UNITS) - 1:
        largest /= 1024
        power += 1
    return float(1024**power), _UNITS[power]


@dataclass(frozen=True)
class MemoryInfo:
    """Bytes on one device over time.

    ``absolute`` says whether they are totals; if not, they count from the beginning of the trace.
    """

    device: str
    time: tuple[float, ...]
    unit: str
    allocated_bytes: tuple[float, ...]
    reserved_bytes: tuple[float, ...] | None
    absolute: bool

    @property
    def peak_bytes(self) -> float:
        """The most that was taken."""
        return max(self.allocated_bytes, default=0.0)

    @property
    def unused_bytes(self) -> tuple[float, ...] | None:
        """Reserved minus allocated at each moment; None where the trace does not tell what is reserved."""
        if self.reserved_bytes is None or not self.absolute:
            return None
        return tuple(
            held - used
            for held, used in zip(self.reserved_bytes, self.allocated_bytes, strict=True)
        )


def memory_info(table: pd.DataFrame, device: str, absolute: bool) -> MemoryInfo:
    """Return one device's curve of a report's table ``memory``."""
    mine = table[table["device"] == device]
    divisor, unit = time_unit(float(mine["time_us"].max()))
    reserved = mine["reserved_bytes"]
    return MemoryInfo(
        device,
        tuple((mine["time_us"] / divisor).tolist()),
        unit,
        tuple(mine["allocated_bytes"].astype(float).tolist()),
        None if reserved.isna().all() else tuple(reserved.tolist()),
        absolute,
    )


def memory_plot(info: MemoryInfo) -> go.Figure:
    """Draw what is allocated, and, where that is known, what the allocator has reserved; between them is no tensor."""
    figure = go.Figure()
    divisor, unit = _byte_unit(max(info.peak_bytes, *(info.reserved_bytes or (0.0,))))
    unused = info.unused_bytes
    series = [("allocated, in tensors", info.allocated_bytes, style.SERIES_COLOURS[0], "tozeroy")]
    if info.reserved_bytes is not None:
        fill = "tonexty" if unused is not None else "none"
        series.append(("reserved by the allocator", info.reserved_bytes, style.NEUTRAL, fill))
    for name, values, colour, fill in series:
        told = [format_bytes(value) for value in values]
        if fill == "tonexty" and unused is not None:
            pairs = zip(told, unused, strict=True)
            told = [f"{text}, {format_bytes(more)} of it unused" for text, more in pairs]
        figure.add_trace(
            go.Scatter(
                x=list(info.time),
                y=[value / divisor for value in values],
                name=name,
                mode="lines",
                fill=fill,
                fillcolor=style.with_alpha(colour, 0.18),
                line={"shape": "hv", "width": 1.5, "color": colour},
                customdata=told,
                hovertemplate=f"%{{x:.4~g}} {info.unit}: %{{customdata}}<extra>{name}</extra>",
                showlegend=len(series) > 1,
            )
        )
    since = "" if info.absolute else ", from the beginning of the trace on"
    title = f"{style.plain(info.device)}: {format_bytes(info.peak_bytes)} at most{since}"
    if unused is not None:
        title += f", up to {format_bytes(max(unused))} more reserved and not in use"
    figure.update_layout(
        **style.layout(
            f"{title} (measured)",
            height=320,
            xaxis={"title": {"text": f"time since the beginning of the trace, {info.unit}"}},
            yaxis={"title": {"text": f"memory, {unit}"}, "rangemode": "tozero"},
        )
    )
    return figure


def fragmentation_words(row: Mapping[str, Any]) -> str | None:
    """Say what a device's allocator held unused, by a row of a trace's ``memory``; None for the host."""
    if row["device"] == "cpu":
        return None
    found = row.get("fragmentation")
    if not found:
        return "Fragmentation: *not measured*: this trace does not tell what the allocator had reserved."
    return (
        f"Fragmentation (*measured*, reserved minus allocated): {format_bytes(found['mean_bytes'])} on average, "
        f"{100 * found['mean_share']:.0f} % of what was reserved; {format_bytes(found['at_peak_bytes'])} when most "
        "was allocated. The allocator may hand free memory out again; what lies in pieces that are too small it cannot."
    )


@dataclass(frozen=True)
class MemoryCategoriesInfo:
    """Bytes by category over time, in the order in which they are stacked."""

    time_ms: tuple[float, ...]
    categories: dict[str, tuple[float, ...]]

    @property
    def peak_bytes(self) -> float:
        """The largest sum over categories."""
        return max((sum(row) for row in zip(*self.categories.values(), strict=True)), default=0.0)


def memory_categories_info(table: pd.DataFrame) -> MemoryCategoriesInfo:
    """Return the curves of a report's table ``memory_categories``; empty categories are left out."""
    found = {
        name: tuple(table[f"{name}_bytes"].astype(float).tolist())
        for name in _CATEGORY_TITLES
        if table[f"{name}_bytes"].any()
    }
    return MemoryCategoriesInfo(tuple((table["time_us"] / 1e3).tolist()), found)


def memory_categories_plot(info: MemoryCategoriesInfo) -> go.Figure:
    """Draw the categories stacked over time."""
    figure = go.Figure()
    divisor, unit = _byte_unit(info.peak_bytes)
    for name, values in info.categories.items():
        figure.add_trace(
            go.Scatter(
                x=list(info.time_ms),
                y=[value / divisor for value in values],
                name=_CATEGORY_TITLES[name],
                mode="lines",
                stackgroup="all",
                line={
                    "shape": "hv",
                    "width": 0.5,
                    "color": style.memory_colour(_SAME_AS.get(name, "")),
                },
                customdata=[format_bytes(value) for value in values],
                hovertemplate="%{x:.4~g} ms: %{customdata}<extra>"
                + f"{_CATEGORY_TITLES[name]}</extra>",
            )
        )
    figure.update_layout(
        **style.layout(
            f"{format_bytes(info.peak_bytes)} at most (measured)",
            height=420,
            xaxis={"title": {"text": "time, ms"}},
            yaxis={"title": {"text": f"memory, {unit}"}, "rangemode": "tozero"},
        )
    )
    return figure
