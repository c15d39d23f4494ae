"""A figure as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from typing import Literal

import plotly.graph_objects as go

PAPER, INK = "#ffffff", "#1c2333"
"""A file has no page around it, so it brings a background of its own."""
TOOLS = {"displaylogo": False, "scrollZoom": False}
"""How Plotly's own buttons behave, on a page as in a file."""


Picture = Literal["svg", "png"]


def tools(name: str, picture: Picture = "svg") -> dict[str, object]:
    """Return Plotly's settings for a figure whose camera saves a file of this name; a PNG has twice the dots."""
    how = {"format": picture, "filename": name, "scale": 2 if picture == "png" else 1}
    return {**TOOLS, "toImageButtonOptions": how}


def page(figure: go.Figure, name: str) -> str:
    """Return a figure as the text of an HTML file that carries plotly.js (about 5 MB); the figure stays as it is."""
    own = go.Figure(figure)
    own.update_layout(paper_bgcolor=PAPER, plot_bgcolor=PAPER, font_color=INK)
    return str(own.to_html(include_plotlyjs=True, full_html=True, config=tools(name)))
