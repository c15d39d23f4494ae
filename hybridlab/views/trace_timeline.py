"""A trace over time: nested bars, a lane for each thread and stream, as much as a screen can tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.profiling.trace_flame import window
from hybridlab.units import format_seconds
from hybridlab.views import style
from hybridlab.views.bars import kernel_label, time_unit

Colouring = Literal["kind", "component", "name"]
_KIND_TITLES = {
    "operator": "Operators",
    "module": "Modules",
    "range": "Ranges",
    "runtime": "Starting kernels",
    "kernel": "Kernels",
    "copy": "Copies and fills",
    "several": "Several short ones",
}
_KIND_COLOURS = {
    "operator": style.SERIES_COLOURS[2],
    "module": style.SERIES_COLOURS[6],
    "range": style.SERIES_COLOURS[1],
    "runtime": style.SERIES_COLOURS[4],
    "kernel": style.SERIES_COLOURS[0],
    "copy": style.SERIES_COLOURS[5],
    "several": style.OTHER_COLOUR,
}
_MOST_GROUPS = 8
_MOST_DEPTH = 60
_LETTERS_ACROSS = 130
_FEWEST_LETTERS = 5
_ROW_PIXELS = 17
_GAP = 1


@dataclass(frozen=True, eq=False)
class TimelineInfo:
    """What is seen between two moments.

    Attributes:
        bars: a row a rectangle: row (from the top), name, component, kind, start_us, dur_us, events, busy_us, group.
        groups: the groups in which the rectangles are coloured, with their colours.
        lanes: title, first row and number of rows of each lane.
        window_us: the two moments.
        events: how many events the rectangles stand for.
    """

    bars: pd.DataFrame
    groups: dict[str, str]
    lanes: tuple[tuple[str, int, int], ...]
    window_us: tuple[float, float]
    events: int


def timeline_info(
    bars: pd.DataFrame,
    lanes: pd.DataFrame,
    window_us: tuple[float, float],
    colouring: Colouring = "kind",
    most: int = 2_000,
) -> TimelineInfo:
    """Return the rectangles between two moments.

    Args:
        bars: the report's table ``flame``, or some lanes of it.
        lanes: the report's table ``lanes``, those that are shown.
        window_us: the moments, in µs since the beginning of the trace.
        colouring: what a colour stands for.
        most: how many rectangles are sent.
    """
    chosen = bars[bars["lane"].isin(lanes["lane"]) & (bars["depth"] < _MOST_DEPTH)]
    seen = window(chosen, *window_us, most)
    first, placed = 0, []
    first_row = {}
    for lane, title in zip(lanes["lane"], lanes["title"], strict=True):
        mine = seen.loc[seen["lane"] == lane, "depth"]
        height = int(mine.max()) + 1 if len(mine) else 1
        placed.append((str(title), first, height))
        first_row[lane] = first
        first += height + _GAP
    seen["row"] = seen["lane"].map(first_row) + seen["depth"]
    seen["group"], groups = _groups(seen, colouring)
    return TimelineInfo(seen, groups, tuple(placed), window_us, int(seen["events"].sum()))


def _groups(seen: pd.DataFrame, colouring: Colouring) -> tuple[pd.Series, dict[str, str]]:
    """Return the group of each rectangle, and the groups' colours; what is rare is one group."""
    kind = seen["kind"].astype(str)
    if colouring == "kind":
        present = [name for name in _KIND_TITLES if (kind == name).any()]
        return kind.map(_KIND_TITLES), {_KIND_TITLES[name]: _KIND_COLOURS[name] for name in present}
    text = seen[colouring].astype(str).where(kind != "several", _KIND_TITLES["several"])
    busy = seen["busy_us"].groupby(text).sum().sort_values(ascending=False)
    names = [name for name in busy.index if name != _KIND_TITLES["several"]][:_MOST_GROUPS]
    colours = {name: style.series_colour(at) for at, name in enumerate(names)}
    grey = {"Others": style.NEUTRAL, _KIND_TITLES["several"]: style.OTHER_COLOUR}
    group = text.where(text.isin([*names, _KIND_TITLES["several"]]), "Others")
    present_groups = set(group)
    return group, colours | {name: c for name, c in grey.items() if name in present_groups}


def timeline_plot(info: TimelineInfo) -> go.Figure:
    """Draw the rectangles, time from left to right."""
    start, end = info.window_us
    divisor, unit = time_unit(end - start)
    figure = go.Figure()
    for name, colour in info.groups.items():
        mine = info.bars[info.bars["group"] == name]
        letters = (mine["dur_us"] / (end - start) * _LETTERS_ACROSS).astype(int)
        letters = letters.where(mine["kind"] != "several", 0)
        figure.add_trace(
            go.Bar(
                base=(mine["start_us"] / divisor).round(6).tolist(),
                x=(mine["dur_us"] / divisor).round(6).tolist(),
                y=mine["row"].tolist(),
                orientation="h",
                width=0.92,
                name=style.plain(name, 40),
                marker={
                    "color": style.with_alpha(colour, 0.45)
                    if name == _KIND_TITLES["several"]
                    else colour,
                    "line": {"width": 0},
                },
                text=[
                    kernel_label(text, room) if room >= _FEWEST_LETTERS else ""
                    for text, room in zip(mine["name"].astype(str), letters, strict=True)
                ],
                textposition="inside",
                insidetextanchor="start",
                textangle=0,
                constraintext="none",
                textfont={"size": 11, "color": "#ffffff"},
                cliponaxis=True,
                customdata=_words(mine),
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    rows = info.lanes[-1][1] + info.lanes[-1][2] if info.lanes else 1
    figure.update_layout(
        **style.layout(
            f"{info.events:,} events in {format_seconds((end - start) / 1e6)} (measured)",
            barmode="overlay",
            height=min(1_400, _ROW_PIXELS * rows + 150),
            xaxis={
                "title": {"text": f"time since the beginning of the trace, {unit}"},
                "range": [start / divisor, end / divisor],
            },
            yaxis={
                "range": [rows - 0.4, -0.9],
                "tickmode": "array",
                "tickvals": [first + (height - 1) / 2 for _, first, height in info.lanes],
                "ticktext": [style.plain(title, 28) for title, _, _ in info.lanes],
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
            },
            legend={
                "orientation": "h",
                "y": 1.0,
                "yanchor": "bottom",
                "x": 0,
                "title": {"text": ""},
            },
        )
    )
    figure.update_layout(margin_t=84, title_y=0.985, title_yanchor="top")
    for _, first, _ in info.lanes[1:]:
        figure.add_hline(y=first - 1, line={"color": style.GRID, "width": 1})
    return figure


def _words(bars: pd.DataFrame) -> list[str]:
    words = []
    columns = ("name", "component", "kind", "dur_us", "events", "busy_us")
    for name, component, kind, dur, events, busy in zip(*(bars[c] for c in columns), strict=True):
        took = format_seconds(dur / 1e6)
        if kind == "several":
            words.append(
                f"{events:,} short events in {took}, {format_seconds(busy / 1e6)} long together"
            )
        else:
            owner = style.plain(str(component), 120)
            words.append(f"{style.plain(str(name), 120)}<br>{took}<br>{owner}")
    return words
