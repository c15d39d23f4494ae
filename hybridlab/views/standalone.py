"""A figure as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

import plotly.graph_objects as go

PAPER, INK = "#ffffff", "#1c2333"
"""A file has no page around it, so it brings a background of its own."""
TOOLS = {"displaylogo": False, "scrollZoom": False}
"""How Plotly's own buttons behave, on a page as in a file."""


def tools(name: str) -> dict[str, object]:
    """Return Plotly's settings for a figure whose picture button saves an SVG file of this name."""
    return {**TOOLS, "toImageButtonOptions": {"format": "svg", "filename": name}}


def page(figure: go.Figure, name: str) -> str:
    """Return a figure as the text of an HTML file that carries plotly.js (about 5 MB); the figure stays as it is."""
    own = go.Figure(figure)
    own.update_layout(paper_bgcolor=PAPER, plot_bgcolor=PAPER, font_color=INK)
    return str(own.to_html(include_plotlyjs=True, full_html=True, config=tools(name)))
