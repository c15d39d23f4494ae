"""Why the devices of a trace waited: causes of idle time, delays of launches, queues, and what decided a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style
from hybridlab.views.bars import Bars, bars_plot, time_unit

CAUSES = {
    "host_wait_us": "The host was late",
    "kernel_wait_us": "Short gap between kernels",
    "other_us": "Something else, such as another stream",
}
_CAUSE_COLOURS = dict(zip(CAUSES, ("#e08a1e", "#4c78dd", style.OTHER_COLOUR), strict=True))
PATH_KINDS = {
    "host": "Host",
    "kernel": "Kernels",
    "copy": "Copies",
    "launch_delay": "Launch to start",
    "kernel_delay": "Between kernels",
    "wait": "Host woke late",
    "unknown": "Unknown",
}
_PATH_COLOURS = {
    "host": style.SERIES_COLOURS[2],
    "kernel": style.SERIES_COLOURS[0],
    "copy": style.SERIES_COLOURS[5],
    "launch_delay": style.SERIES_COLOURS[4],
    "kernel_delay": style.SERIES_COLOURS[3],
    "wait": style.SERIES_COLOURS[1],
    "unknown": style.OTHER_COLOUR,
}
_MOST_STREAMS = 12


@dataclass(frozen=True)
class IdleInfo:
    """Idle time of streams by its cause, in µs."""

    streams: tuple[str, ...]
    causes: dict[str, tuple[float, ...]]

    @property
    def main_cause(self) -> str:
        """The cause of most of it."""
        return max(self.causes, key=lambda cause: sum(self.causes[cause]))


def idle_info(table: pd.DataFrame) -> IdleInfo:
    """Return the idle time of a report's table ``idle``, the streams with most of it."""
    total = table[list(CAUSES)].sum(axis=1)
    shown = table.loc[total.sort_values(ascending=False, kind="stable").index[:_MOST_STREAMS]]
    streams = tuple(
        f"device {device}, stream {stream}"
        for device, stream in zip(shown["device"], shown["stream"], strict=True)
    )
    return IdleInfo(streams, {cause: tuple(shown[cause].tolist()) for cause in CAUSES})


def idle_plot(info: IdleInfo) -> go.Figure:
    """Draw a bar a stream, stacked by cause."""
    largest = max((sum(times) for times in zip(*info.causes.values(), strict=True)), default=0.0)
    divisor, unit = time_unit(largest)
    total = sum(map(sum, info.causes.values()))
    main = info.main_cause
    share = 100 * sum(info.causes[main]) / total if total else 0
    return bars_plot(
        info.streams,
        [
            Bars(CAUSES[cause], tuple(us / divisor for us in times), _CAUSE_COLOURS[cause])
            for cause, times in info.causes.items()
        ],
        f"{CAUSES[main]}: {share:.0f} % of the idle time of streams (measured)",
        f"idle time between first and last work of a stream, {unit}",
    )


@dataclass(frozen=True)
class DelaysInfo:
    """How many kernels began so long after their launch: labels of the ranges and counts."""

    ranges: tuple[str, ...]
    kernels: tuple[int, ...]
    median_us: float
    p95_us: float


def delays_info(table: pd.DataFrame, figures: Mapping[str, Any]) -> DelaysInfo:
    """Return the histogram of a report's table ``launch_delays`` with the summary's ``launch_delays``."""
    ranges = tuple(
        f"{format_seconds(a / 1e6) if a else '0'} – {format_seconds(b / 1e6)}"
        for a, b in zip(table["from_us"], table["to_us"], strict=True)
    )
    return DelaysInfo(
        ranges, tuple(table["kernels"].tolist()), figures["median_us"], figures["p95_us"]
    )


def delays_plot(info: DelaysInfo) -> go.Figure:
    """Draw the histogram, ranges from left to right growing by a factor."""
    figure = go.Figure(
        go.Bar(
            x=list(range(len(info.ranges))),
            y=list(info.kernels),
            customdata=list(info.ranges),
            hovertemplate="%{customdata}: %{y:,} kernels<extra></extra>",
            marker={"color": style.SERIES_COLOURS[4]},
        )
    )
    every = max(1, -(-len(info.ranges) // 10))
    figure.update_layout(
        **style.layout(
            f"Half the kernels began within {format_seconds(info.median_us / 1e6)} of their launch, "
            f"95 % within {format_seconds(info.p95_us / 1e6)} (measured)",
            height=300,
            bargap=0.1,
            xaxis={
                "title": {"text": "from the end of the launch to the start of the kernel"},
                "tickmode": "array",
                "tickvals": list(range(0, len(info.ranges), every)),
                "ticktext": [text.partition(" – ")[0] for text in info.ranges[::every]],
            },
            yaxis={"title": {"text": "kernels"}},
        )
    )
    return figure


@dataclass(frozen=True)
class QueueInfo:
    """Lengths of queues over time: a curve a stream."""

    curves: tuple[tuple[str, tuple[float, ...], tuple[int, ...]], ...]
    longest: int
    unit: str


def queue_info(table: pd.DataFrame) -> QueueInfo:
    """Return the curves of a report's table ``queue``, those of the longest queues."""
    divisor, unit = time_unit(float(table["time_us"].max()))
    groups = sorted(
        table.groupby(["device", "stream"], sort=True), key=lambda item: -item[1]["length"].max()
    )
    curves = tuple(
        (
            f"device {key[0]}, stream {key[1]}",
            tuple((part["time_us"] / divisor).tolist()),
            tuple(part["length"].tolist()),
        )
        for key, part in groups[: len(style.SERIES_COLOURS)]
    )
    return QueueInfo(curves, int(table["length"].max()), unit)


def queue_plot(info: QueueInfo) -> go.Figure:
    """Draw each queue as steps over time."""
    figure = go.Figure()
    for at, (name, time, length) in enumerate(info.curves):
        figure.add_trace(
            go.Scatter(
                x=list(time),
                y=list(length),
                name=name,
                mode="lines",
                line={"shape": "hv", "width": 1.5, "color": style.series_colour(at)},
                hovertemplate=f"%{{x:.4~g}} {info.unit}: %{{y:,}} waiting<extra>{name}</extra>",
                showlegend=True,
            )
        )
    figure.update_layout(
        **style.layout(
            f"At most {info.longest:,} launched kernels and copies waited to begin (measured)",
            height=300,
            xaxis={"title": {"text": f"time since the beginning of the trace, {info.unit}"}},
            yaxis={"title": {"text": "waiting"}, "rangemode": "tozero"},
        )
    )
    return figure


@dataclass(frozen=True)
class CriticalInfo:
    """The critical path of steps by kind of work, in µs."""

    steps: tuple[str, ...]
    kinds: dict[str, tuple[float, ...]]

    @property
    def bound_by(self) -> str:
        """The kind of most of it."""
        return max(self.kinds, key=lambda kind: sum(self.kinds[kind]))


def critical_info(table: pd.DataFrame, most: int = 30) -> CriticalInfo:
    """Return the paths of a report's table ``critical_path``, of the first steps."""
    wide = table.pivot_table(index="step", columns="kind", values="us", sort=False).head(most)
    kinds = {kind: tuple(wide[kind].tolist()) for kind in PATH_KINDS if wide[kind].sum() > 0}
    return CriticalInfo(tuple(map(str, wide.index)), kinds)


def critical_plot(info: CriticalInfo) -> go.Figure:
    """Draw a bar a step, stacked by kind of work on the path."""
    largest = max((sum(times) for times in zip(*info.kinds.values(), strict=True)), default=0.0)
    divisor, unit = time_unit(largest)
    total = sum(map(sum, info.kinds.values()))
    share = 100 * sum(info.kinds[info.bound_by]) / total if total else 0
    return bars_plot(
        [f"step {style.plain(step, 20)}" for step in info.steps],
        [
            Bars(PATH_KINDS[kind], tuple(us / divisor for us in times), _PATH_COLOURS[kind])
            for kind, times in info.kinds.items()
        ],
        f"{PATH_KINDS[info.bound_by]}: {share:.0f} % of what decided how long steps took (measured)",
        f"time on the critical path, {unit}",
    )
