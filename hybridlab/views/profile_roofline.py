"""The roofline: what each component reaches, predicted and measured, under what this machine can do at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.units import format_bytes, format_count, format_flops, format_seconds
from hybridlab.views import style

_PRECISION = "float32"
_SIZE = (900.0, 560.0)
"""About how large the figure is on a page, in pixels: labels that would lie over each other there are left out."""
_LETTER_PX, _LINE_PX, _DOT_PX, _LETTERS = 6.2, 16.0, 6.0, 32


@dataclass(frozen=True)
class Dot:
    """One component from one source; ``share`` is of what the ceilings allow its operators."""

    component: str
    source: style.Source
    intensity: float
    flops_per_s: float
    flops: float
    bytes: float
    ms: float
    share: float | None
    bound: str


@dataclass(frozen=True)
class Slope:
    """Bytes a second from a memory level; ``working_set_bytes`` is how much was gone over to measure it."""

    level: str
    bytes_per_s: float
    working_set_bytes: float


@dataclass(frozen=True)
class RooflineInfo:
    """Dots and ceilings; ``without_flops`` are components that multiply nothing and so have no place on the chart."""

    dots: tuple[Dot, ...]
    flops_per_s: tuple[tuple[str, float], ...]
    slopes: tuple[Slope, ...]
    without_flops: tuple[str, ...]

    @property
    def dearest(self) -> Dot | None:
        """The measured dot of the component that takes the longest."""
        measured = [dot for dot in self.dots if dot.source == "measured"]
        return max(measured, key=lambda dot: dot.ms, default=None)


def roofline_info(roofline: pd.DataFrame, ceilings: pd.DataFrame) -> RooflineInfo:
    """Return the picture of a report's tables ``roofline`` and ``ceilings``."""
    known = roofline[(roofline["flops"] > 0) & (roofline["ms"] > 0)]
    dots = tuple(
        Dot(
            str(row["component"]),
            "measured" if row["source"] == "measured" else "predicted",
            float(row["intensity"]),
            float(row["flops_per_s"]),
            float(row["flops"]),
            float(row["bytes"]),
            float(row["ms"]),
            None if pd.isna(row["share"]) else float(row["share"]),
            row["bound"] or "",
        )
        for row in known.to_dict("records")
    )
    computing = ceilings[ceilings["kind"] == "compute"]
    moving = ceilings[ceilings["kind"] == "bandwidth"]
    idle = roofline[(roofline["flops"] == 0) & (roofline["ms"] > 0)]
    return RooflineInfo(
        dots,
        tuple(zip(computing["name"], computing["value"].astype(float), strict=True)),
        tuple(
            Slope(str(level), float(speed), float(size))
            for level, speed, size in zip(
                moving["name"], moving["value"], moving["working_set_bytes"], strict=True
            )
        ),
        tuple(dict.fromkeys(map(str, idle["component"]))),
    )


def roofline_plot(info: RooflineInfo) -> go.Figure:
    """Draw the ceilings as lines, and each component as a hollow dot (predicted) joined to a filled one (measured)."""
    figure = go.Figure()
    xs, ys = _ranges(info)
    places = _labelled(info, xs, ys)
    _ceilings(figure, info, xs)
    _joins(figure, info.dots)
    for source in ("predicted", "measured"):
        mine = [dot for dot in info.dots if dot.source == source]
        hollow = source == "predicted"
        colour = style.SOURCE_COLOURS["predicted" if hollow else "measured"]
        figure.add_trace(
            go.Scatter(
                x=[dot.intensity for dot in mine],
                y=[dot.flops_per_s / 1e9 for dot in mine],
                name=source,
                mode="markers" if hollow else "markers+text",
                text=[
                    style.plain(dot.component, _LETTERS)
                    if (dot.component, source) in places
                    else ""
                    for dot in mine
                ],
                textposition=[places.get((dot.component, source), "top center") for dot in mine],
                textfont={"size": 11},
                customdata=[[dot.component] for dot in mine],
                hovertext=[_told(dot) for dot in mine],
                hoverinfo="text",
                marker={
                    "symbol": "circle-open" if hollow else "circle",
                    "size": 11,
                    "color": colour,
                    "line": {"width": 2, "color": colour},
                },
            )
        )
    figure.update_layout(**style.layout(_title(info), height=int(_SIZE[1])))
    figure.update_layout(legend={"y": -0.16})
    figure.update_xaxes(
        type="log",
        range=[math.log10(x) for x in xs],
        title_text="arithmetic intensity (FLOPs for each byte read or written)",
        exponentformat="power",
        dtick=1,
    )
    figure.update_yaxes(
        type="log",
        range=[math.log10(y) for y in ys],
        title_text="speed (GFLOP/s)",
        exponentformat="power",
        dtick=1,
    )
    return figure


def _ranges(info: RooflineInfo) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of both axes: all dots, and the place where memory gives way to arithmetic."""
    peak = dict(info.flops_per_s).get(_PRECISION)
    ridges = [peak / slope.bytes_per_s for slope in info.slopes] if peak else []
    xs = [*(dot.intensity for dot in info.dots), *ridges] or [0.1, 10.0]
    ys = [*(dot.flops_per_s / 1e9 for dot in info.dots), *([peak / 1e9] if peak else [])]
    ys = ys or [0.1, 10.0]
    return (min(xs) / 3, max(xs) * 4), (min(ys) / 3, max(ys) * 3)


def _ceilings(figure: go.Figure, info: RooflineInfo, xs: tuple[float, float]) -> None:
    """Draw a slope for each memory level up to the ceiling of float32; other precisions are there to be switched on."""
    peak = dict(info.flops_per_s).get(_PRECISION)
    for place, slope in enumerate(info.slopes):
        ridge = peak / slope.bytes_per_s if peak else xs[1]
        figure.add_trace(
            go.Scatter(
                x=[xs[0], ridge],
                y=[xs[0] * slope.bytes_per_s / 1e9, ridge * slope.bytes_per_s / 1e9],
                name=f"{slope.level}: {format_count(slope.bytes_per_s, 'B/s')}",
                mode="lines",
                line={"color": style.series_colour(place + 2), "width": 1.5},
                hovertemplate=f"{slope.level}: {format_count(slope.bytes_per_s, 'B/s')} measured over "
                f"{format_bytes(slope.working_set_bytes)}<extra></extra>",
            )
        )
    for name, speed in info.flops_per_s:
        figure.add_trace(
            go.Scatter(
                x=list(xs),
                y=[speed / 1e9] * 2,
                name=f"{name}: {format_flops(speed)}/s",
                mode="lines",
                line={
                    "color": style.NEUTRAL,
                    "width": 2,
                    "dash": "solid" if name == _PRECISION else "dot",
                },
                visible=True if name == _PRECISION else "legendonly",
                hovertemplate=f"{name}: {format_flops(speed)}/s measured<extra></extra>",
            )
        )


def _joins(figure: go.Figure, dots: Sequence[Dot]) -> None:
    by_source = {(dot.component, dot.source): dot for dot in dots}
    xs: list[float | None] = []
    ys: list[float | None] = []
    for dot in dots:
        other = by_source.get((dot.component, "predicted"))
        if dot.source == "measured" and other is not None:
            xs += [other.intensity, dot.intensity, None]
            ys += [other.flops_per_s / 1e9, dot.flops_per_s / 1e9, None]
    figure.add_trace(
        go.Scatter(
            x=xs,
            y=ys,
            mode="lines",
            line={"color": style.NEUTRAL, "width": 1},
            opacity=0.6,
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _labelled(
    info: RooflineInfo, xs: tuple[float, float], ys: tuple[float, float]
) -> dict[tuple[str, str], str]:
    """Return where the names of measured dots go that have room, those that take the longest first."""

    def place(dot: Dot) -> tuple[float, float]:
        wide, high = (math.log(ends[1] / ends[0]) for ends in (xs, ys))
        x = _SIZE[0] * math.log(dot.intensity / xs[0]) / wide
        return x, 0.72 * _SIZE[1] * math.log(dot.flops_per_s / 1e9 / ys[0]) / high

    boxes = [(*place(dot), _DOT_PX, _DOT_PX) for dot in info.dots]
    """Middle, and half the width and height, of what is in the way."""
    found: dict[tuple[str, str], str] = {}
    measured = [dot for dot in info.dots if dot.source == "measured"]
    for dot in sorted(measured, key=lambda dot: -dot.ms):
        x, y = place(dot)
        half = _LETTER_PX * min(_LETTERS, len(dot.component)) / 2
        aside, above = half + 2 * _DOT_PX, _LINE_PX
        for where, middle in (
            ("middle right", (x + aside, y)),
            ("middle left", (x - aside, y)),
            ("top center", (x, y + above)),
            ("bottom center", (x, y - above)),
        ):
            taken = any(
                abs(middle[0] - box[0]) < half + box[2]
                and abs(middle[1] - box[1]) < _LINE_PX / 2 + box[3]
                for box in boxes
            )
            if not taken and half <= middle[0] <= _SIZE[0] - half:
                boxes.append((*middle, half, _LINE_PX / 2))
                found[dot.component, dot.source] = where
                break
    return found


def _told(dot: Dot) -> str:
    lines = [
        f"<b>{style.plain(dot.component)}</b> ({dot.source})",
        f"{format_seconds(dot.ms / 1e3)} a step, {format_flops(dot.flops_per_s)}/s",
        f"{format_flops(dot.flops)}, {format_bytes(dot.bytes)} read and written",
        f"{dot.intensity:.3g} FLOPs a byte",
    ]
    if dot.share is not None:
        lines.append(f"{100 * dot.share:.3g} % of what the ceilings allow")
    if dot.bound:
        limit = dot.bound if dot.bound in ("compute", "overhead") else f"bandwidth of {dot.bound}"
        lines.append(f"bound by {limit}")
    return "<br>".join(lines)


def _title(info: RooflineInfo) -> str:
    dot = info.dearest
    if dot is None:
        return "No component has FLOPs and a measured time"
    if dot.share is None:
        return (
            f"{style.plain(dot.component)} takes the longest, at {format_flops(dot.flops_per_s)}/s"
        )
    return (
        f"{style.plain(dot.component)} takes the longest and reaches {100 * dot.share:.2g} % "
        "of what the ceilings allow it (measured)"
    )
