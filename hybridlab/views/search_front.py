"""The Pareto front of a search: all its trials over two or three objectives, and where better is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridlab.search.landscape import Array
from hybridlab.search.state import StudyState
from hybridlab.views import style
from hybridlab.views.search_axes import Axis, axis_of

FRONT, BEATEN, BEYOND = style.SERIES_COLOURS[0], style.OTHER_COLOUR, style.ERROR_COLOUR
CHOSEN, TRUE = style.SERIES_COLOURS[1], style.SERIES_COLOURS[2]
_ROOM = 0.06
_EYE = {"x": 1.7, "y": 1.7, "z": 1.1}


@dataclass(frozen=True, eq=False)
class FrontInfo:
    """Trials as points of two or three axes, in the axes' units; the groups hold numbers and values (N, 2 or 3)."""

    study: str
    axes: tuple[Axis, ...]
    front: tuple[tuple[int, ...], Array]
    beaten: tuple[tuple[int, ...], Array]
    beyond: tuple[tuple[int, ...], Array]
    true: Array
    """Points of the true front where it is known, in the order of the first axis."""
    whole: bool
    """Whether the axes are all objectives, so that no point of the front beats another one here."""

    @property
    def title(self) -> str:
        """What to see, in one line."""
        count = len(self.front[0])
        if not count:
            return "No trial keeps the limits yet" if self.beyond[0] else "No trial has ended yet"
        trials = sum(len(one[0]) for one in self.groups)
        points = f"{count:,} of {trials:,} trials {'is' if count == 1 else 'are'} beaten by none"
        return points if self.whole else f"{points} in all objectives"

    @property
    def groups(self) -> tuple[tuple[tuple[int, ...], Array], ...]:
        """The front, the beaten and those beyond a limit."""
        return self.front, self.beaten, self.beyond

    def table(self) -> pd.DataFrame:
        """Return the points, one row each."""
        names = [axis.label for axis in self.axes]
        parts = []
        for kind, (numbers, values) in zip(
            ("front", "dominated", "infeasible"), self.groups, strict=True
        ):
            part = pd.DataFrame(values, columns=names)
            part.insert(0, "kind", kind)
            part.insert(0, "trial", list(numbers))
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def front_info(
    state: StudyState, columns: Sequence[int], true_KM: Sequence[Sequence[float]] = ()
) -> FrontInfo:
    """Return a study's trials over two or three of its objectives, by their places."""
    places = list(columns)
    values = state.values[:, places]
    axes = tuple(
        axis_of(state.objectives[column], values[:, at]) for at, column in enumerate(places)
    )
    scales = np.array([axis.scale for axis in axes])
    numbers = np.array([state.rows[at].number for at in state.done], dtype=np.int64)
    on_front = np.isin(np.array(state.done, dtype=np.int64), np.array(state.front, dtype=np.int64))

    def group(chosen: Any) -> tuple[tuple[int, ...], Array]:
        return tuple(numbers[chosen].tolist()), np.asarray(values[chosen] / scales)

    true = np.array(true_KM, dtype=np.float64).reshape(len(true_KM), len(state.objectives))
    return FrontInfo(
        state.name,
        axes,
        group(on_front),
        group(state.feasible & ~on_front),
        group(~state.feasible),
        true[:, places] / scales,
        len(places) == len(state.objectives),
    )


def front_plot(
    info: FrontInfo,
    *,
    log: Sequence[bool] = (False, False),
    beaten: bool = True,
    beyond: bool = True,
    chosen: int | None = None,
    band: tuple[int, float, float] | None = None,
) -> go.Figure:
    """Draw two axes; each point carries its trial's number, a click can choose it.

    ``band`` is what counts as good as the best: the place of its axis and two values, in the objective's own unit.
    """
    x, y = info.axes
    figure = go.Figure()
    if band is not None:
        at, ends = band[0], sorted(value / info.axes[band[0]].scale for value in band[1:])
        draw = figure.add_hrect if at else figure.add_vrect
        edges = dict(zip(("y0", "y1") if at else ("x0", "x1"), ends, strict=True))
        draw(**edges, fillcolor=CHOSEN, opacity=0.12, line_width=0, layer="below")
    if len(info.true):
        figure.add_trace(
            go.Scatter(
                x=info.true[:, 0],
                y=info.true[:, 1],
                name="true front",
                mode="lines",
                line={"color": TRUE, "width": 1.5, "dash": "dot"},
                hoverinfo="skip",
            )
        )
    if beyond:
        figure.add_trace(_points(info, info.beyond, "beyond a limit", BEYOND, "x", 7, 0.7))
    if beaten:
        figure.add_trace(_points(info, info.beaten, "dominated", BEATEN, "circle", 6, 0.55))
    numbers, values = info.front
    if info.whole and len(numbers):
        order = np.argsort(values[:, 0], kind="stable")
        figure.add_trace(
            go.Scatter(
                x=values[order, 0],
                y=values[order, 1],
                mode="lines",
                line={"color": style.with_alpha(FRONT, 0.5), "width": 1.5, "shape": _steps(x, y)},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    figure.add_trace(_points(info, info.front, "front", FRONT, "circle", 10, 1.0))
    if (point := _place(info, chosen)) is not None:
        figure.add_trace(
            go.Scatter(
                x=point[:1],
                y=point[1:2],
                name="chosen",
                mode="markers",
                marker={
                    "size": 18,
                    "color": style.CLEAR,
                    "line": {"color": CHOSEN, "width": 3},
                },
                hoverinfo="skip",
            )
        )
    better = {
        "x": 0.99 if x.larger else 0.01,
        "y": 1.0 if y.larger else 0.01,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "right" if x.larger else "left",
        "yanchor": "bottom",  # above the frame where better is up: the best points stand there
        "text": f"{_arrow(x.larger, y.larger)} better",
        "showarrow": False,
        "font": {"color": TRUE, "size": 14},
    }
    axes = {}
    for name, axis, wanted, column in (("xaxis", x, log[0], 0), ("yaxis", y, log[1], 1)):
        shown = np.concatenate(
            [
                values[:, column],
                info.true[:, column],
                *(g[1][:, column] for g, on in _shown(info, beaten, beyond) if on),
            ]
        )
        logarithmic = wanted and len(shown) > 0 and float(shown.min()) > 0
        axes[name] = {
            "title": {"text": f"{axis.label} · {axis.better}"},
            "type": "log" if logarithmic else "linear",
            "range": _range(shown, logarithmic),
        }
    # All at once: each update of a figure costs the server as much as the next one.
    more = {"height": 480, "clickmode": "event+select", "annotations": [better], **axes}
    figure.update_layout(**style.layout(info.title, **more))
    return figure


def front_plot_3d(
    info: FrontInfo,
    *,
    log: Sequence[bool] = (False, False, False),
    beaten: bool = True,
    beyond: bool = True,
    chosen: int | None = None,
    ink: str = style.NEUTRAL,
) -> go.Figure:
    """Draw three axes, to be turned with the mouse; the better corner is marked by a diamond."""
    figure = go.Figure()
    shown: list[Array] = [info.front[1]]
    for wanted, group, name, colour, size, alpha in (
        (beyond, info.beyond, "beyond a limit", BEYOND, 3, 0.6),
        (beaten, info.beaten, "dominated", BEATEN, 3, 0.5),
        (True, info.front, "front", FRONT, 5, 1.0),
    ):
        if wanted:
            shown.append(group[1])
            figure.add_trace(
                go.Scatter3d(
                    x=group[1][:, 0],
                    y=group[1][:, 1],
                    z=group[1][:, 2],
                    customdata=list(group[0]),
                    name=name,
                    mode="markers",
                    marker={"size": size, "color": style.with_alpha(colour, alpha)},
                    hovertemplate=_hover(info.axes),
                )
            )
    if (point := _place(info, chosen)) is not None:
        figure.add_trace(
            go.Scatter3d(
                x=point[:1],
                y=point[1:2],
                z=point[2:3],
                name="chosen",
                mode="markers",
                marker={"size": 9, "color": CHOSEN, "symbol": "circle-open"},
                hoverinfo="skip",
            )
        )
    every = np.vstack(shown)
    if len(every):
        corner = [
            (every[:, at].max() if axis.larger else every[:, at].min())
            for at, axis in enumerate(info.axes)
        ]
        figure.add_trace(
            go.Scatter3d(
                x=corner[:1],
                y=corner[1:2],
                z=corner[2:3],
                name="better",
                mode="markers+text",
                text=["better"],
                marker={"size": 8, "color": TRUE, "symbol": "diamond-open"},
                textfont={"color": TRUE},
                hoverinfo="skip",
            )
        )
    axes = {
        f"{letter}axis": {
            "title": {"text": axis.label},
            "type": "log" if on and len(every) and float(every[:, at].min()) > 0 else "linear",
            "gridcolor": style.GRID,
            "color": ink,
            "backgroundcolor": style.CLEAR,
        }
        for at, (letter, axis, on) in enumerate(zip("xyz", info.axes, log, strict=True))
    }
    figure.update_layout(
        **style.layout(info.title, height=600, scene={**axes, "camera": {"eye": _EYE}})
    )
    figure.update_layout(legend_y=-0.02)
    return figure


def _points(
    info: FrontInfo,
    group: tuple[tuple[int, ...], Array],
    name: str,
    colour: str,
    symbol: str,
    size: int,
    alpha: float,
) -> go.Scattergl | go.Scatter:
    numbers, values = group
    kind = go.Scattergl if len(numbers) > 500 else go.Scatter
    return kind(
        x=values[:, 0],
        y=values[:, 1],
        customdata=np.array(numbers, dtype=np.int32),
        name=f"{name} ({len(numbers):,})",
        mode="markers",
        marker={"size": size, "symbol": symbol, "color": style.with_alpha(colour, alpha)},
        unselected={"marker": {"opacity": 1.0}},
        hovertemplate=_hover(info.axes),
    )


def _hover(axes: Sequence[Axis]) -> str:
    lines = [
        f"{axis.title} %{{{letter}:.4g}} {axis.unit}".rstrip()
        for letter, axis in zip("xyz", axes, strict=False)
    ]
    return "trial %{customdata}<br>" + "<br>".join(lines) + "<extra></extra>"


def _place(info: FrontInfo, number: int | None) -> Array | None:
    for numbers, values in info.groups:
        if number in numbers:
            return np.asarray(values[numbers.index(number)])
    return None


def _shown(
    info: FrontInfo, beaten: bool, beyond: bool
) -> tuple[tuple[tuple[tuple[int, ...], Array], bool], ...]:
    return (info.beaten, beaten), (info.beyond, beyond)


def _range(values: Array, logarithmic: bool) -> list[float] | None:
    """Return an axis' ends with room for the marks; None leaves it to the browser."""
    if not len(values):
        return None
    ends = np.array([values.min(), values.max()], dtype=np.float64)
    if logarithmic:
        ends = np.log10(ends)
    room = _ROOM * float(ends[1] - ends[0]) or 0.05 * abs(float(ends[0])) or 1.0
    return [float(ends[0]) - room, float(ends[1]) + room]


def _steps(x: Axis, y: Axis) -> str:
    """Return the line's form between two points of a front: through the corner that both beat."""
    return "vh" if x.larger else "hv"


def _arrow(right: bool, up: bool) -> str:
    return {(True, True): "↗", (True, False): "↘", (False, True): "↖", (False, False): "↙"}[
        right, up
    ]
