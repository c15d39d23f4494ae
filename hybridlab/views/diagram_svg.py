"""Draws what ``diagram_info`` laid out as SVG, for notebooks and reports that have no plotly to draw with."""

from __future__ import annotations

import html
from collections.abc import Iterator

from hybridlab.views import style
from hybridlab.views.diagram import HEADER, Box, DiagramInfo, Edge

MARGIN = 14.0
_PAPER = '<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" fill="#ffffff"/>'
_CHARACTER = 6.4
"""Width of a letter of the box texts in pixels, on average."""


def diagram_svg(info: DiagramInfo, *, paper: bool = False) -> str:
    """Return the drawing as one ``<svg>`` element; texts take the colour of their surroundings, dark or light.

    With ``paper`` it stands on white with dark texts, as a file of its own must.
    """
    left, top = -MARGIN, -MARGIN
    width, height = info.width + 2 * MARGIN, info.height + 2 * MARGIN
    groups = [box for box in info.boxes if box.kind == "group"]
    components = [box for box in info.boxes if box.kind != "group"]
    ink = f";color:{style.INK['light']}" if paper else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{_text(info.name)}"'
        f' viewBox="{left:g} {top:g} {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        f' style="max-width:100%;height:auto{ink}" font-family="sans-serif" fill="currentColor">',
        *([_PAPER.format(left, top, width, height)] if paper else []),
        *(_rectangle(box, style.NEUTRAL, 0.06) for box in groups),
        *(_line(edge) for edge in info.edges),
        *(part for box in info.boxes if box.residual for part in _residual(box)),
        *(_rectangle(box, style.kind_colour(box.kind), 0.20) for box in components),
        *(part for box in info.boxes for part in _label(box)),
        *(_sign(box) for box in info.boxes if box.mark),
        "</svg>",
    ]
    return "".join(parts)


def _rectangle(box: Box, colour: str, alpha: float) -> str:
    outline = style.ERROR_COLOUR if box.errors else style.MARK_COLOURS.get(box.mark, colour)
    width = "2.4" if box.mark else "1.4"
    faint = ' stroke-dasharray="5 4"' if box.mark == "removed" else ""
    alpha = alpha / 3 if box.mark == "removed" else alpha
    return (
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}" rx="7"'
        f' fill="{colour}" fill-opacity="{alpha:g}" stroke="{outline}" stroke-width="{width}"{faint}/>'
    )


def _line(edge: Edge) -> str:
    points = " ".join(f"{x:g},{y:g}" for x, y in edge.points)
    dash = ' stroke-dasharray="2 3"' if edge.crosses else ""
    dash = ' stroke-dasharray="5 4"' if edge.mark == "removed" else dash
    colour = style.MARK_COLOURS.get(edge.mark, style.NEUTRAL)
    width = "2.2" if edge.mark else "1.4"
    drawn = (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
    )
    if edge.arrow:
        x, y = edge.points[-1]
        drawn += (
            f'<path d="M{x - 4:g},{y - 7:g} L{x + 4:g},{y - 7:g} L{x:g},{y:g} Z" fill="{colour}"/>'
        )
    if edge.label and not edge.crosses:
        x, y = edge.points[0]
        drawn += f'<text x="{x + 7:g}" y="{y + 16:g}" font-size="10" fill="{style.NEUTRAL}">{_text(edge.label)}</text>'
    return drawn


def _residual(box: Box) -> Iterator[str]:
    """Yield the line that leads a box's input around it, and the circle where it is added."""
    middle, side = box.left + box.width / 2, box.left - 9
    top, bottom = box.top - 9, box.top + box.height + 9
    yield (
        f'<path d="M{middle:g},{top:g} H{side:g} V{bottom:g} H{middle - 4:g}" fill="none"'
        f' stroke="{style.NEUTRAL}" stroke-opacity="0.55"/>'
    )
    yield f'<circle cx="{middle:g}" cy="{bottom:g}" r="4" fill="none" stroke="{style.NEUTRAL}"/>'


def _label(box: Box) -> Iterator[str]:
    middle = box.left + box.width / 2
    letters = int((box.width - 14) / _CHARACTER)
    centre = box.top + (HEADER / 2 if box.kind == "group" else box.height / 2)
    title_y = centre + 4 if box.kind == "group" or not box.detail else centre - 3
    whole = box.title if len(box.title) > letters else ""
    words = "; ".join(filter(None, (whole, box.told, box.gives, *box.errors)))
    hover = f"<title>{_text(box.path)} {_text(words)}</title>"
    gone = ' text-decoration="line-through"' if box.mark == "removed" else ""
    yield (
        f'<text x="{middle:g}" y="{title_y:g}"{gone} font-size="12.5" font-weight="bold" text-anchor="middle">'
        f"{hover}{_text(box.title, letters)}</text>"
    )
    if box.detail and box.kind != "group":
        yield (
            f'<text x="{middle:g}" y="{centre + 13:g}" font-size="10.5" text-anchor="middle">'
            f"{_text(box.detail, int(letters * 1.2))}</text>"
        )


def _sign(box: Box) -> str:
    """Return the sign of a mark in a disc on the box's corner."""
    colour, sign = style.MARK_COLOURS[box.mark], style.MARK_SIGNS[box.mark]
    return (
        f'<circle cx="{box.left:g}" cy="{box.top:g}" r="9" fill="{colour}"/>'
        f'<text x="{box.left:g}" y="{box.top + 5:g}" font-size="14" font-weight="bold"'
        f' text-anchor="middle" fill="#ffffff">{sign}</text>'
    )


def _text(text: str, letters: int = 200) -> str:
    """Shorten text to a number of letters and make its HTML harmless."""
    text = " ".join(text.split())
    return html.escape(text if len(text) <= letters else text[: max(1, letters - 1)] + "…")
