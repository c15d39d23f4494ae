"""The Streamlit side of the diagram."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.architecture.carried import CARRIER
from hybridlab.views import style
from hybridlab.views.diagram import DiagramInfo

_HERE = Path(__file__).parent
_MARKS = {
    mark: {"colour": colour, "sign": style.MARK_SIGNS[mark]}
    for mark, colour in style.MARK_COLOURS.items()
}
_COLOURS = {
    **style.KIND_COLOURS,
    "": style.OTHER_COLOUR,
    "line": style.NEUTRAL,
    "measured": style.SOURCE_COLOURS["measured"],
    "away": style.SERIES_COLOURS[4],
}
MOST_BOXES = 300
"""More boxes than this are no longer a picture."""
_mount = st.components.v2.component(
    "hybridlab_diagram",
    html=(
        '<div class="frame"><div class="board"></div>\n'
        '<button class="save" type="button" aria-label="Download the diagram as SVG">SVG</button></div>\n'
    ),
    css=(_HERE / "diagram.css").read_text(encoding="utf-8"),
    js=(_HERE / "diagram.js").read_text(encoding="utf-8"),
)


def diagram(
    key: str,
    info: DiagramInfo,
    selected: str | None = None,
    choose: Callable[[str], None] | None = None,
    height_px: int = 575,
    carries: str = "",
) -> None:
    """Show a diagram; ``choose`` hears the address of a box that is clicked or entered, without it nothing can be.

    ``carries`` is a text that travels in the file when the picture is saved.
    """

    def chosen() -> None:
        path = st.session_state[key].get("select")
        if choose is not None and isinstance(path, str):
            choose(path)

    data: dict[str, Any] = {
        "info": {
            "boxes": [vars(box) for box in info.boxes],
            "edges": [dataclasses.asdict(edge) for edge in info.edges],
            "width": info.width,
            "height": info.height,
        },
        "selected": selected,
        "colours": _COLOURS,
        "label": f"Diagram of {info.name}, {len(info.boxes)} boxes",
        "file": f"{info.name}.svg",
        "height": height_px,
        "choosable": choose is not None,
        "marks": _MARKS,
        "carries": carries,
        "carrier": CARRIER,
    }
    _mount(key=key, data=data, on_select_change=chosen)
