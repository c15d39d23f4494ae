"""What ran when in a measured step: phases, the components inside them down to operators, as a flame graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_seconds
from hybridlab.views import style

MOST = 2_000
"""Rectangles of one figure; a screen shows no more."""
_NARROWEST = 1 / 1_500
"""Share of the window below which a rectangle is thinner than a dot of the screen."""
_INNER_REPEAT = re.compile(r"\.\d+(?=\.)")
_WIDTH_PX, _LETTER_PX = 900.0, 6.5
"""About how wide the figure is on a page; a name that would be wider than its rectangle is left out."""
_PAPER, _INK, _GROUP = "#ffffff", "#1c2333", "#b3bbc8"
"""Letters on colours, letters on grey, and the grey of groups of components."""
PHASES = "phase"
OPERATORS = "operator"


@dataclass(frozen=True)
class Rectangle:
    """Something that ran without another between: ``row`` counts from 0, the phase, to the operators."""

    row: int
    name: str
    component: str
    phase: str
    start_us: float
    dur_us: float
    operators: int
    busy_us: float
    """Time inside operators."""


@dataclass(frozen=True)
class TimelineInfo:
    """Rectangles of a window of time; ``hidden`` are too thin to be drawn."""

    rectangles: tuple[Rectangle, ...]
    rows: tuple[str, ...]
    window_us: tuple[float, float]
    hidden: int
    components: tuple[str, ...]
    """In order of first appearance, repeats as one: they give the colours."""


def timeline_info(
    flame: pd.DataFrame, window_us: tuple[float, float] | None = None, most: int = MOST
) -> TimelineInfo:
    """Return what is to be seen of a report's table ``flame`` in a window of time; the longest rectangles are kept."""
    if flame.empty:
        return TimelineInfo((), (PHASES, OPERATORS), (0.0, 1.0), 0, ())
    start = flame["start_us"].to_numpy(float)
    end = start + flame["dur_us"].to_numpy(float)
    low, high = window_us or (float(start.min()), float(end.max()))
    inside = (end > low) & (start < high)
    seen = flame[inside]
    start, end = start[inside], end[inside]
    paths = seen["component"].astype(str).tolist()
    phases = seen["phase"].astype(str).tolist()
    depth = max((path.count(".") + 1 for path in paths), default=1)
    keys: list[list[tuple[str, str] | None]] = [[(phase, phase) for phase in phases]]
    for level in range(1, depth + 1):
        keys.append(
            [_prefix(path, phase, level) for path, phase in zip(paths, phases, strict=True)]
        )
    found: list[Rectangle] = []
    for row, names in enumerate(keys):
        found += _runs(row, names, phases, start, end)
    ops = seen["op"].astype(str).tolist()
    found += [
        Rectangle(depth + 1, op, path, phase, a, b - a, 1, b - a)
        for op, path, phase, a, b in zip(ops, paths, phases, start, end, strict=True)
    ]
    least = _NARROWEST * (high - low)
    wide = [item for item in found if item.dur_us >= least]
    kept = sorted(wide, key=lambda item: -item.dur_us)[:most]
    order = dict.fromkeys(_node(path) for path in flame["component"].astype(str))
    rows = (PHASES, *(f"component, level {level}" for level in range(1, depth + 1)), OPERATORS)
    return TimelineInfo(tuple(kept), rows, (low, high), len(found) - len(kept), tuple(order))


def _prefix(path: str, phase: str, level: int) -> tuple[str, str] | None:
    """Return the first names of a path; nothing where it is not so deep."""
    steps = path.split(".")
    return (phase, ".".join(steps[:level])) if level <= len(steps) else None


def _runs(
    row: int,
    keys: list[tuple[str, str] | None],
    phases: list[str],
    start: np.ndarray[Any, Any],
    end: np.ndarray[Any, Any],
) -> list[Rectangle]:
    """Return a rectangle for each run of equal keys; what belongs to none ends it."""
    found = []
    first = 0
    for place in range(1, len(keys) + 1):
        if place < len(keys) and keys[place] == keys[first]:
            continue
        key = keys[first]
        if key is not None:
            last = float(end[first:place].max())
            busy = float((end[first:place] - start[first:place]).sum())
            begun = float(start[first])
            found.append(
                Rectangle(
                    row,
                    key[1],
                    key[1] if row else "",
                    phases[first],
                    begun,
                    last - begun,
                    place - first,
                    busy,
                )
            )
        first = place
    return found


def timeline_plot(info: TimelineInfo) -> go.Figure:
    """Draw time from left to right and depth downwards; repeats of a component share a colour."""
    figure = go.Figure()
    places = {name: place for place, name in enumerate(info.components)}
    low, high = info.window_us
    bars = info.rectangles
    starts = [max(item.start_us, low) for item in bars]
    ends = [min(item.start_us + item.dur_us, high) for item in bars]
    figure.add_trace(
        go.Bar(
            x=[(end - start) / 1e3 for start, end in zip(starts, ends, strict=True)],
            base=[start / 1e3 for start in starts],
            y=[item.row for item in bars],
            orientation="h",
            width=0.92,
            marker={
                "color": [_colour(item, places, len(info.rows)) for item in bars],
                "line": {"width": 0.5, "color": "rgba(128,136,149,0.5)"},
            },
            text=[_label(item, high - low) for item in bars],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            insidetextfont={
                "size": 11,
                "color": [_PAPER if _coloured(item, places) else _INK for item in bars],
            },
            customdata=[[item.component] for item in bars],
            hovertext=[_told(item) for item in bars],
            hoverinfo="text",
            showlegend=False,
        )
    )
    figure.update_layout(**style.layout(_title(info), height=90 + 44 * len(info.rows), bargap=0))
    figure.update_xaxes(
        title_text="time from the start of the step (ms)", range=[low / 1e3, high / 1e3]
    )
    figure.update_yaxes(
        autorange="reversed",
        tickmode="array",
        tickvals=list(range(len(info.rows))),
        ticktext=list(info.rows),
        showgrid=False,
    )
    return figure


def _node(path: str) -> str:
    return _INNER_REPEAT.sub("", path)


def _coloured(item: Rectangle, places: dict[str, int]) -> bool:
    """Say whether it is of one component; phases and groups are grey."""
    return item.row > 0 and _node(item.component) in places


def _colour(item: Rectangle, places: dict[str, int], rows: int) -> str:
    if not _coloured(item, places):
        return style.OTHER_COLOUR if item.row == 0 else _GROUP
    colour = style.series_colour(places[_node(item.component)])
    return style.with_alpha(colour, 0.75) if item.row == rows - 1 else colour


def _label(item: Rectangle, window_us: float) -> str:
    """Return a name where there is room for it; a number says whose it is."""
    names = item.name.split(".")
    short = ".".join(names[-2:]) if names[-1].isdigit() else names[-1]
    room = _WIDTH_PX * item.dur_us / max(1e-9, window_us) / _LETTER_PX - 1
    return style.plain(short, 40) if len(short) <= room else ""


def _told(item: Rectangle) -> str:
    lines = [
        f"<b>{style.plain(item.name)}</b>",
        f"{item.phase}, {format_seconds(item.dur_us / 1e6)}",
    ]
    if item.component and item.component != item.name:
        lines.insert(1, style.plain(item.component))
    if item.operators > 1:
        share = 100 * item.busy_us / max(1e-9, item.dur_us)
        lines.append(f"{item.operators:,} operators, inside them {share:.0f} % of the time")
    return "<br>".join(lines)


def _title(info: TimelineInfo) -> str:
    sums: dict[str, float] = {}
    for item in sorted(info.rectangles, key=lambda item: item.start_us):
        if item.row == 0:
            sums[item.name] = sums.get(item.name, 0.0) + item.dur_us
    if not sums:
        return "No operator of the step has a measured time"
    words = ", ".join(f"{name} {format_seconds(us / 1e6)}" for name, us in sums.items())
    return f"What ran when (measured): {words}"
