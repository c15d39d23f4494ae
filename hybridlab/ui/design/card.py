"""A preset's card: picture, words, and its figures, predicted and measured, each said to be what it is."""

from __future__ import annotations

import base64
import functools
import html

from hybridlab.architecture.gallery import Measured, gallery
from hybridlab.architecture.library import Entry
from hybridlab.ui import predictions, state
from hybridlab.ui.preset_costs import PresetCost
from hybridlab.units import format_bytes, format_count, format_seconds
from hybridlab.views.diagram import diagram_info
from hybridlab.views.style import SOURCE_COLOURS, Source
from hybridlab.views.thumbnail import alternative, thumbnail_svg

_SMALL = "font-size:.8rem;line-height:1.35;margin-top:.45rem"
_PALE = "opacity:.7"


def face(entry: Entry, cost: PresetCost | None, coming: bool) -> str:
    """Return a card as one piece of HTML, since a browser draws each element anew.

    ``coming`` says that a cost which is not known is being worked out. The picture is grey until the palette is known,
    for which nobody waits here.
    """
    said = entry.description or "A preset architecture."
    drawn = _drawn(entry.text(), bool(predictions.components_if_known()))
    shown = gallery().get(entry.name)
    lines = [_predicted(cost, coming)]
    lines += [_measured(figure) for figure in shown.measured] if shown else []
    return (
        f"<b>{html.escape(entry.title)}</b><div style='margin:.6rem 0'>{drawn}</div>"
        f"<div style='font-size:.875rem;{_PALE}'>{html.escape(said)}</div>"
        f"{''.join(lines)}"
    )


def _predicted(cost: PresetCost | None, coming: bool) -> str:
    if cost is None:
        words = "being worked out …" if coming else ""
        return f"<div style='{_SMALL};{_PALE}'>{_badge('predicted')} {words}</div>" if words else ""
    figures = (
        f"{format_count(cost.params)} parameters",
        f"{format_seconds(cost.step_ms / 1e3)} a step",
        f"{format_bytes(cost.peak_bytes)} at the peak",
    )
    where = f"{cost.task}, batch {cost.batch:,}, length {cost.length:,}, one thread of this machine"
    return _line("predicted", " · ".join(figures), where)


def _measured(figure: Measured) -> str:
    return _line("measured", figure.words(), f"in {figure.took}; {figure.where}; {figure.date}")


def _line(source: Source, figures: str, where: str) -> str:
    return (
        f"<div style='{_SMALL}'>{_badge(source)} {html.escape(figures)} "
        f"<span style='{_PALE}'>({html.escape(where)})</span></div>"
    )


def _badge(source: Source) -> str:
    """Return the word as it stands on the canvas's legend: predicted hatched and blue, measured plain and orange."""
    colour = SOURCE_COLOURS[source]
    back = f"{colour}3d"
    if source == "predicted":
        back = f"repeating-linear-gradient(135deg,{colour}3d 0 5px,{colour}1f 5px 9px)"
    return f"<em style='font-style:normal;padding:1px 6px;border-radius:8px;background:{back}'>{source}</em>"


@functools.lru_cache(maxsize=64)
def _drawn(text: str, coloured: bool) -> str:
    """Return a text's picture as HTML, empty where it cannot be read; laid out once, not at every rerun."""
    architecture, _ = state.parsed(text)
    if architecture is None:
        return ""
    catalogue = predictions.components_if_known() if coloured else []
    info = diagram_info(architecture, catalogue=catalogue)
    image = base64.b64encode(thumbnail_svg(info).encode()).decode()
    said = html.escape(alternative(info))
    return f'<img alt="{said}" src="data:image/svg+xml;base64,{image}" style="height:64px;max-width:100%">'
