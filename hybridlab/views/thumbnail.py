"""A preset's small picture: its diagram's boxes from left to right, in the colours of their kinds, without words."""

from __future__ import annotations

import html

from hybridlab.views import style
from hybridlab.views.diagram import Box, DiagramInfo, Edge

_MARGIN = 10.0


def thumbnail_svg(info: DiagramInfo, height_px: int = 64) -> str:
    """Return the picture as one ``<svg>`` element of this height that keeps its proportions, for dark and light."""
    width, height = info.height + 2 * _MARGIN, info.width + 2 * _MARGIN
    groups = [box for box in info.boxes if box.kind == "group"]
    components = [box for box in info.boxes if box.kind != "group"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(alternative(info))}"'
        f' viewBox="{-_MARGIN:g} {-_MARGIN:g} {width:g} {height:g}" height="{height_px}"'
        f' width="{width * height_px / height:g}">',
        *(_rectangle(box, style.NEUTRAL, 0.10) for box in groups),
        *(_line(edge) for edge in info.edges),
        *(_rectangle(box, style.kind_colour(box.kind), 0.85) for box in components),
        "</svg>",
    ]
    return "".join(parts)


def alternative(info: DiagramInfo) -> str:
    """Return in words what the picture shows, for those who do not see it."""
    counts: dict[str, int] = {}
    for box in info.boxes:
        if box.kind != "group":
            counts[box.title] = counts.get(box.title, 0) + 1
    parts = [f"{title} × {count}" if count > 1 else title for title, count in counts.items()]
    return f"{info.name}: {', '.join(parts)}"


def _rectangle(box: Box, colour: str, alpha: float) -> str:
    return (
        f'<rect x="{box.top:g}" y="{box.left:g}" width="{box.height:g}" height="{box.width:g}" rx="9"'
        f' fill="{colour}" fill-opacity="{alpha:g}" stroke="{colour}" stroke-width="2"/>'
    )


def _line(edge: Edge) -> str:
    points = " ".join(f"{y:g},{x:g}" for x, y in edge.points)
    return f'<polyline points="{points}" fill="none" stroke="{style.NEUTRAL}" stroke-width="3"/>'
