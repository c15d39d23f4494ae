"""Memory over a step: what is there at every moment by category or component, the peak, and what waits for backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes
from hybridlab.views import style

MIB = 2**20
_MOST_ROWS = 30
By = Literal["category", "component"]


@dataclass(frozen=True)
class Part:
    """Bytes of one category or component at each moment."""

    name: str
    bytes: tuple[float, ...]


@dataclass(frozen=True)
class LiveInfo:
    """Bytes that are there over a step; ``at`` is in ms, or in ticks (allocations, frees, operators) without times.

    ``other`` is the total of the other source, and ``allocator`` what the profiler's own memory events say; both are
    pairs of moments and bytes, empty where there is none.
    """

    source: style.Source
    unit: Literal["ms", "tick"]
    at: tuple[float, ...]
    parts: tuple[Part, ...]
    peak_at: float
    peak_bytes: float
    other: tuple[tuple[float, ...], tuple[float, ...]]
    allocator: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def at_peak(self) -> tuple[tuple[str, float], ...]:
        """What is there at the peak, largest first."""
        if not self.parts:
            return ()
        place = self.at.index(self.peak_at)
        found = [(part.name, part.bytes[place]) for part in self.parts]
        return tuple(sorted((item for item in found if item[1]), key=lambda item: -item[1]))


def live_info(
    live: pd.DataFrame, memory: pd.DataFrame, by: By = "category", source: style.Source = "measured"
) -> LiveInfo:
    """Return the picture of a report's tables ``live`` and ``memory``."""
    mine = live[(live["by"] == by) & (live["source"] == source)]
    timed = bool(len(mine)) and bool(mine["us"].notna().all())
    table = mine.pivot_table(index="tick", columns="name", values="bytes", sort=False).fillna(0.0)
    times = mine.drop_duplicates("tick").set_index("tick")["us"].reindex(table.index)
    at = tuple((times / 1e3).tolist()) if timed else tuple(map(float, table.index))
    total = table.sum(axis=1)
    place = int(total.to_numpy().argmax()) if len(total) else 0
    another = live[(live["by"] == by) & (live["source"] != source)]
    sums = another.groupby("tick", sort=True).agg({"bytes": "sum", "us": "first"})
    known = timed and len(sums) > 0 and bool(sums["us"].notna().all())
    return LiveInfo(
        source,
        "ms" if timed else "tick",
        at,
        tuple(Part(str(name), tuple(table[name].tolist())) for name in table.columns),
        at[place] if at else 0.0,
        float(total.max()) if len(total) else 0.0,
        (tuple((sums["us"] / 1e3).tolist()), tuple(sums["bytes"].tolist())) if known else ((), ()),
        (tuple((memory["us"] / 1e3).tolist()), tuple(memory["total_bytes"].tolist()))
        if timed and len(memory)
        else ((), ()),
    )


def live_plot(info: LiveInfo) -> go.Figure:
    """Draw the parts on top of each other, with the peak marked, and the other source's total as a line."""
    traces = []
    order = sorted(info.parts, key=lambda part: -sum(part.bytes))
    for place, part in enumerate(order):
        known = part.name in style.MEMORY_COLOURS
        colour = style.memory_colour(part.name) if known else style.series_colour(place)
        round_again = not known and place >= len(style.SERIES_COLOURS)
        traces.append(
            go.Scatter(
                x=info.at,
                y=[size / MIB for size in part.bytes],
                name=style.plain(part.name, 40),
                stackgroup="there",
                mode="lines",
                line={"width": 0.5, "color": colour, "shape": "hv"},
                fillcolor=style.with_alpha(colour, 0.35 if round_again else 0.6),
                customdata=[format_bytes(size) for size in part.bytes],
                hovertemplate="%{customdata}<extra>%{fullData.name}</extra>",
            )
        )
    figure = go.Figure(traces)  # one by one each would be copied again and again
    other = "predicted" if info.source == "measured" else "measured"
    _line(figure, info.other, f"total, {other}", "dash")
    _line(figure, info.allocator, "the profiler's memory events", "dot")
    if info.parts:
        figure.add_vline(x=info.peak_at, line={"color": style.ERROR_COLOUR, "width": 1.5})
        figure.add_annotation(
            x=info.peak_at,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=f"peak {format_bytes(info.peak_bytes)}",
            showarrow=False,
            font={"color": style.ERROR_COLOUR},
        )
    figure.update_layout(**style.layout(_title(info), height=460, hovermode="x"))
    figure.update_layout(margin={"t": 64}, legend={"traceorder": "normal"})
    figure.update_xaxes(
        title_text="time from the start of the step (ms)"
        if info.unit == "ms"
        else "ticks (allocations, frees and operators)"
    )
    figure.update_yaxes(title_text="bytes that are there (MiB)", rangemode="tozero")
    return figure


def _line(
    figure: go.Figure, points: tuple[tuple[float, ...], tuple[float, ...]], name: str, dash: str
) -> None:
    if points[0]:
        figure.add_trace(
            go.Scatter(
                x=points[0],
                y=[size / MIB for size in points[1]],
                name=name,
                mode="lines",
                line={"color": style.NEUTRAL, "width": 2, "dash": dash, "shape": "hv"},
                customdata=[format_bytes(size) for size in points[1]],
                hovertemplate="%{customdata}<extra>%{fullData.name}</extra>",
            )
        )


def _title(info: LiveInfo) -> str:
    made = info.at_peak
    if not made:
        return "No memory was followed"
    name, size = made[0]
    share = 100 * size / info.peak_bytes
    return (
        f"Of the peak of {format_bytes(info.peak_bytes)}, {share:.0f} % is {style.plain(name)} "
        f"({info.source})"
    )


@dataclass(frozen=True)
class PeakInfo:
    """Bytes at the peak, or kept for backward, by component and category, most first; ``left_out`` rows are smaller."""

    title: str
    components: tuple[str, ...]
    categories: tuple[str, ...]
    bytes: tuple[tuple[float, ...], ...]
    """A row a category, a column a component."""
    left_out: int


def peak_info(at_peak: pd.DataFrame, source: style.Source = "measured") -> PeakInfo:
    """Return the picture of a report's table ``at_peak``."""
    mine = at_peak[at_peak["source"] == source]
    table = mine.pivot_table(
        index="category", columns="component", values="bytes", aggfunc="sum"
    ).fillna(0.0)
    components = table.sum().sort_values(ascending=False).index.tolist()
    categories = table.sum(axis=1).sort_values(ascending=False).index.tolist()
    shown = components[:_MOST_ROWS]
    table = table.loc[categories, shown]
    title = "Nothing is known of the peak"
    if shown:
        title = f"At the peak most of the memory is of {style.plain(shown[0])} ({source})"
    rows = tuple(map(tuple, table.to_numpy().tolist()))
    return PeakInfo(
        title, tuple(shown), tuple(map(str, categories)), rows, len(components) - len(shown)
    )


def kept_info(kept: pd.DataFrame) -> PeakInfo:
    """Return the picture of a report's table ``kept``: what waits for backward, by how long it waits."""
    shown = kept.sort_values("bytes", ascending=False).head(_MOST_ROWS)
    title = "Nothing is kept for backward"
    if len(shown):
        whole = float(kept["bytes"].sum())
        first = shown.iloc[0]
        title = (
            f"{style.plain(str(first['component']))} keeps the most for backward: "
            f"{format_bytes(first['bytes'])} of {format_bytes(whole)} (measured)"
        )
    return PeakInfo(
        title,
        tuple(map(str, shown["component"])),
        ("kept for backward",),
        (tuple(shown["bytes"].astype(float).tolist()),),
        len(kept) - len(shown),
    )


def peak_plot(info: PeakInfo) -> go.Figure:
    """Draw a bar for each component, apart by category."""
    figure = go.Figure()
    for category, sizes in zip(info.categories, info.bytes, strict=True):
        figure.add_trace(
            go.Bar(
                x=[size / MIB for size in sizes],
                y=[style.plain(name) for name in info.components],
                orientation="h",
                name=style.plain(category, 40),
                marker={"color": style.memory_colour(category)},
                customdata=[format_bytes(size) for size in sizes],
                hovertemplate="%{y}: %{customdata}<extra>%{fullData.name}</extra>",
            )
        )
    title = info.title + (f", {info.left_out} smaller left out" if info.left_out else "")
    figure.update_layout(
        **style.layout(
            title,
            height=max(260, 24 * len(info.components) + 150),
            barmode="stack",
            showlegend=len(info.categories) > 1,
        )
    )
    if len(info.categories) > 1:
        figure.update_layout(
            legend=style.LEGEND_ABOVE, margin_t=88, title_y=0.98, title_yanchor="top"
        )
    figure.update_xaxes(title_text="MiB", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
