"""Draws what ``diagram_info`` laid out: few traces, whatever the number of nodes, so that an edit stays cheap."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from hybridlab.views import style
from hybridlab.views.diagram import HEADER, Box, DiagramInfo

_CORNER = 7.0
_QUARTER = ((0.0, 1.0), (0.134, 0.5), (0.5, 0.134), (1.0, 0.0))
_CHARACTER = 6.6
"""Width of a letter of the box texts in pixels, on average."""


def diagram_plot(
    info: DiagramInfo,
    selected: str | None = None,
    width_px: float = 560.0,
    background: Literal["light", "dark"] | None = None,
) -> go.Figure:
    """Draw a diagram for a place ``width_px`` wide; a box's path comes back as ``customdata`` when it is clicked.

    ``background`` gives texts their full contrast; without it they are of a grey that can be read on both.
    """
    span = max(info.width + 24, width_px)
    scale = min(1.0, width_px / span)
    components = [box for box in info.boxes if box.kind != "group"]
    groups = [box for box in info.boxes if box.kind == "group"]
    traces = [_outlines(groups, style.NEUTRAL, 0.06, "group")] if groups else []
    traces += _lines(info)
    for kind, ghost in dict.fromkeys((box.kind, box.supplied) for box in components):
        here = [box for box in components if box.kind == kind and box.supplied is ghost]
        colour = style.kind_colour(kind)
        name = style.KIND_TITLES.get(kind, "Unknown")
        traces.append(_outlines(here, colour, 0.07 if ghost else 0.20, name, ghost))
    traces += _marked(info, selected)
    traces.append(_texts(components, groups, scale, style.INK.get(background or "", style.NEUTRAL)))
    traces.append(_targets(info))
    left = (info.width - span) / 2
    return go.Figure(
        {
            "data": traces,
            "layout": style.layout(
                "",
                height=max(140.0, info.height + 44),
                margin={"l": 0, "r": 0, "t": 6, "b": 6},
                showlegend=False,
                dragmode=False,
                hoverdistance=110,
                clickmode="event+select",
                xaxis={"visible": False, "range": [left, left + span], "fixedrange": True},
                yaxis={"visible": False, "range": [info.height + 16, -16], "fixedrange": True},
            ),
        }
    )


def _outlines(
    boxes: Sequence[Box], colour: str, alpha: float, name: str, ghost: bool = False
) -> dict[str, Any]:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for box in boxes:
        for x, y in _rounded(box):
            xs.append(x)
            ys.append(y)
        xs.append(None)
        ys.append(None)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "name": name,
        "fill": "toself",
        "fillcolor": style.with_alpha(colour, alpha),
        "line": {"color": colour, "width": 1.4, "dash": "dot" if ghost else "solid"},
        "hoverinfo": "skip",
    }


def _rounded(box: Box, grow: float = 0.0) -> list[tuple[float, float]]:
    left, top = box.left - grow, box.top - grow
    right, bottom = box.left + box.width + grow, box.top + box.height + grow
    corners = (
        (left, top, 1, 1, _QUARTER),
        (right, top, -1, 1, _QUARTER[::-1]),
        (right, bottom, -1, -1, _QUARTER),
        (left, bottom, 1, -1, _QUARTER[::-1]),
    )
    points = [
        (x + sx * _CORNER * a, y + sy * _CORNER * b)
        for x, y, sx, sy, arc in corners
        for a, b in arc
    ]
    return [*points, points[0]]


def _lines(info: DiagramInfo) -> list[dict[str, Any]]:
    """Return the lines between boxes, their arrow heads, the shapes beside them and the residuals around boxes."""
    traces = []
    for crosses in (False, True):
        edges = [edge for edge in info.edges if edge.crosses is crosses]
        if edges:
            line = {"color": style.NEUTRAL, "width": 1.4, "dash": "dot" if crosses else "solid"}
            traces.append(_path([edge.points for edge in edges], line))
    ends = [edge.points[-1] for edge in info.edges if edge.arrow]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for x, _ in ends],
            "y": [y - 4 for _, y in ends],
            "marker": {"symbol": "triangle-down", "size": 8, "color": style.NEUTRAL},
            "hoverinfo": "skip",
        }
    )
    traces += _residuals([box for box in info.boxes if box.residual])
    said = {edge.points[0]: edge for edge in info.edges if edge.label and not edge.crosses}.values()
    traces.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": [edge.points[0][0] + 7 for edge in said],
            "y": [edge.points[0][1] + 13 for edge in said],
            "text": [html.escape(edge.label) for edge in said],
            "textposition": "middle right",
            "textfont": {"size": 10.5, "color": style.NEUTRAL},
            "hoverinfo": "skip",
        }
    )
    return traces


def _residuals(boxes: Sequence[Box]) -> list[dict[str, Any]]:
    """Return the lines that lead a box's input around it, and the circles where it is added."""
    if not boxes:
        return []
    paths = []
    for box in boxes:
        middle, side = box.left + box.width / 2, box.left - 9
        top, bottom = box.top - 9, box.top + box.height + 9
        paths.append(((middle, top), (side, top), (side, bottom), (middle - 5, bottom)))
    circles = {
        "type": "scatter",
        "mode": "markers",
        "x": [box.left + box.width / 2 for box in boxes],
        "y": [box.top + box.height + 9 for box in boxes],
        "marker": {
            "symbol": "circle-cross-open",
            "size": 9,
            "color": style.NEUTRAL,
            "line": {"width": 1.2},
        },
        "hoverinfo": "skip",
    }
    return [_path(paths, {"color": style.with_alpha(style.NEUTRAL, 0.55), "width": 1.1}), circles]


def _path(lines: Sequence[Sequence[tuple[float, float]]], line: dict[str, Any]) -> dict[str, Any]:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for points in lines:
        xs += [x for x, _ in points] + [None]
        ys += [y for _, y in points] + [None]
    return {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip"}


def _marked(info: DiagramInfo, selected: str | None) -> list[dict[str, Any]]:
    """Return the outlines of boxes with errors or warnings, and of the one that is selected."""
    wrong = [_rounded(box) for box in info.boxes if box.errors]
    doubtful = [_rounded(box) for box in info.boxes if box.warnings and not box.errors]
    chosen = info.box(selected) if selected else None
    outlines = (
        (wrong, style.ERROR_COLOUR, 2.6),
        (doubtful, style.WARNING_COLOUR, 2.2),
        ([_rounded(chosen, 3)] if chosen else [], style.SERIES_COLOURS[0], 2.6),
    )
    return [_path(paths, {"color": c, "width": w}) for paths, c, w in outlines if paths]


def _texts(
    components: Sequence[Box], groups: Sequence[Box], scale: float, ink: str
) -> dict[str, Any]:
    letters = int((components[0].width * scale - 14) / _CHARACTER) if components else 24
    xs = [box.left + box.width / 2 for box in components]
    ys = [box.top + box.height / 2 for box in components]
    texts = [_label(box, letters) for box in components]
    for box in groups:
        xs.append(box.left + box.width / 2)
        ys.append(box.top + HEADER / 2)
        texts.append(
            f"<b>{style.plain(_flag(box) + box.title, int(box.width * scale / _CHARACTER) - 2)}</b>"
        )
    return {
        "type": "scatter",
        "mode": "text",
        "x": xs,
        "y": ys,
        "text": texts,
        "textfont": {"size": 12.5, "color": ink},
        "hoverinfo": "skip",
    }


def _label(box: Box, letters: int) -> str:
    if box.supplied:
        return f"{style.plain(box.title, letters)}<br><span style='font-size:10.5px'>from the task</span>"
    title = f"<b>{style.plain(_flag(box) + box.title, letters)}</b>"
    if not box.detail:
        return title
    return f"{title}<br><span style='font-size:10.5px'>{style.plain(box.detail, int(letters * 1.2))}</span>"


def _flag(box: Box) -> str:
    return "⚠ " if box.errors or box.warnings else ""


def _targets(info: DiagramInfo) -> dict[str, Any]:
    """Return the invisible points that take hover and click, one a box."""
    boxes = [box for box in info.boxes if not box.supplied]
    is_group = [box.kind == "group" for box in boxes]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [box.left + box.width / 2 for box in boxes],
        "y": [
            box.top + (HEADER / 2 if group else box.height / 2)
            for box, group in zip(boxes, is_group, strict=True)
        ],
        "customdata": [[box.path] for box in boxes],
        "text": [_hover(box) for box in boxes],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 26, "opacity": 0},
        "selected": {"marker": {"opacity": 0}},
        "unselected": {"marker": {"opacity": 0}},
    }


def _hover(box: Box) -> str:
    lines = [f"<b>{style.plain(box.title, 60)}</b>", style.plain(box.detail, 90)]
    lines += [f"gives {style.plain(box.gives, 90)}"] if box.gives else []
    lines += [style.plain(text, 140) for text in (*box.errors, *box.warnings)]
    lines.append(f"<i>{html.escape(box.path)}</i>")
    return "<br>".join(line for line in lines if line)
