"""Curves of one metric for up to eight runs on one chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from hybridlab.views import style

MOST = 8
_POINTS = 2_000
_ENDINGS = {"_percent": "%", "_w": "W", "_mhz": "MHz", "_celsius": "°C"}
Axis = Literal["step", "seconds"]
_UNITS = {
    "loss": "nats",
    "samples_per_s": "samples/s",
    "rss_bytes": "bytes",
    "device_bytes": "bytes",
    "cpu_percent": "% of one core",
    "device_reserved_bytes": "bytes",
    "device_unused_bytes": "bytes",
    "device_inactive_split_bytes": "bytes",
    "device_largest_free_bytes": "bytes",
    "cores_percent": "%, mean of all cores",
}


@dataclass(frozen=True)
class Curve:
    """One run's curve: where it is at each step and second."""

    run: str
    name: str
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]

    def best(self, *, higher: bool) -> float | None:
        """Return the best finite value, or None where there is none."""
        finite = [value for value in self.values if math.isfinite(value)]
        return (max if higher else min)(finite) if finite else None


@dataclass(frozen=True)
class Border:
    """Where a stage of a run begins."""

    run: str
    step: int
    seconds: float
    name: str


@dataclass(frozen=True)
class CurvesInfo:
    """What a chart of one metric shows."""

    metric: str
    axis: Axis
    higher_is_better: bool
    curves: tuple[Curve, ...]
    borders: tuple[Border, ...] = ()

    @property
    def leader(self) -> Curve | None:
        """The run with the best value."""
        scored = [(curve.best(higher=self.higher_is_better), curve) for curve in self.curves]
        known = [(value, curve) for value, curve in scored if value is not None]
        if not known:
            return None
        pick = max if self.higher_is_better else min
        return pick(known, key=lambda item: item[0])[1]

    def table(self) -> pd.DataFrame:
        """Return every point, one row each, for downloads."""
        rows = [
            (curve.run, curve.name, self.metric, step, second, value)
            for curve in self.curves
            for step, second, value in zip(curve.steps, curve.seconds, curve.values, strict=True)
        ]
        return pd.DataFrame(rows, columns=["run", "name", "metric", "step", "seconds", "value"])


def curves_info(
    curves: Sequence[Curve],
    metric: str,
    *,
    axis: Axis = "step",
    higher_is_better: bool | None = None,
    borders: Sequence[Border] = (),
) -> CurvesInfo:
    """Return a chart's content: at most eight runs, each thinned to what a screen can show, and borders of stages.

    Raises:
        ValueError: there are more than eight runs.
    """
    if len(curves) > MOST:
        raise ValueError(f"{len(curves)} runs on one chart; at most {MOST}")
    higher = "accuracy" in metric if higher_is_better is None else higher_is_better
    return CurvesInfo(
        metric, axis, higher, tuple(_thinned(curve) for curve in curves), tuple(borders)
    )


def borders_of(
    run: str, points: Sequence[tuple[int, float, float]], names: Sequence[str]
) -> list[Border]:
    """Return where a run's stages begin, from its points (step, seconds, place) and the names of all its stages."""
    return [
        Border(run, step, seconds, names[int(place)])
        for step, seconds, place in points
        if 0 <= place < len(names)
    ]


def curves_plot(info: CurvesInfo, colours: Mapping[str, int] | None = None) -> go.Figure:
    """Draw the curves; ``colours`` gives runs their places in the palette, so that they keep them between charts."""
    figure = go.Figure()
    for index, curve in enumerate(info.curves):
        place = (colours or {}).get(curve.run, index)
        sparse = len(curve.values) <= 60
        figure.add_trace(
            go.Scatter(
                x=curve.steps if info.axis == "step" else curve.seconds,
                y=curve.values,
                name=style.plain(curve.name, 40),
                mode="lines+markers" if sparse else "lines",
                line={**style.LINE["measured"], "color": style.series_colour(place)},
                marker={"size": 6},
                hovertemplate="%{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )
    _draw_borders(figure, info, colours or {})
    word = info.metric.replace("_", " ")
    unit = _UNITS.get(info.metric) or _unit_in(info.metric)
    figure.update_layout(**style.layout(_title(info, word), height=420))
    figure.update_layout(hovermode="x unified", showlegend=len(info.curves) > 1)
    figure.update_xaxes(title_text="step" if info.axis == "step" else "running time (s)")
    figure.update_yaxes(title_text=f"{word} ({unit})" if unit else word)
    return figure


def _draw_borders(figure: go.Figure, info: CurvesInfo, colours: Mapping[str, int]) -> None:
    """Draw a dashed line where each stage begins, in its run's colour; names where there is one run."""
    alone = len(info.curves) == 1
    places = {curve.run: colours.get(curve.run, index) for index, curve in enumerate(info.curves)}
    for border in info.borders:
        figure.add_vline(
            x=border.step if info.axis == "step" else border.seconds,
            line={
                "color": style.NEUTRAL if alone else style.series_colour(places[border.run]),
                "width": 1,
                "dash": "dash",
            },
            **(
                {
                    "annotation_text": style.plain(border.name, 40),
                    "annotation_position": "top right",
                }
                if alone
                else {}
            ),
        )


def _unit_in(metric: str) -> str:
    """Return the unit that a metric's name ends in; those of several sources have the source behind a stroke."""
    if "bits" in metric:
        return "bits"
    stem = metric.partition("/")[0]
    return next((unit for end, unit in _ENDINGS.items() if stem.endswith(end)), "")


def _title(info: CurvesInfo, word: str) -> str:
    leader = info.leader
    if leader is None:
        return f"No run has points of {word} yet"
    best = leader.best(higher=info.higher_is_better)
    if len(info.curves) == 1:
        return f"{word.capitalize()}: best {best:.4g}"
    return f"{style.plain(leader.name, 40)} reaches the best {word}: {best:.4g}"


def _thinned(curve: Curve) -> Curve:
    stride = math.ceil(len(curve.steps) / _POINTS)
    if stride <= 1:
        return curve
    keep = slice(None, None, stride)
    return Curve(
        curve.run,
        curve.name,
        (*curve.steps[keep], curve.steps[-1]),
        (*curve.seconds[keep], curve.seconds[-1]),
        (*curve.values[keep], curve.values[-1]),
    )
