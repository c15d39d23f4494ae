"""Colours and line styles that every figure shares, chosen to read on dark and on light."""

from __future__ import annotations

import html
from typing import Any, Literal

import plotly.graph_objects as go

Source = Literal["predicted", "measured"]

KIND_COLOURS = {
    "input": "#2a9d8f",
    "token_mixer": "#5b7cfa",
    "channel_mixer": "#e08a1e",
    "norm": "#8d99ae",
    "merge": "#a56bd6",
    "router": "#d64f8a",
    "head": "#3f9b4f",
}
"""One colour for each family of the palette, the same in diagrams, bars and badges."""
KIND_TITLES = {
    "input": "Input",
    "token_mixer": "Token mixer",
    "channel_mixer": "Channel mixer",
    "norm": "Norm",
    "merge": "Join",
    "router": "Router",
    "head": "Head",
}
OTHER_COLOUR = "#8d99ae"
ERROR_COLOUR = "#e5484d"
WARNING_COLOUR = "#e8a317"
NEUTRAL = "#7d8590"
"""Lines and small text that must be visible on both backgrounds."""
MARK_COLOURS = {"added": "#2a9d4f", "removed": "#e5484d", "changed": "#d08700", "moved": "#7a6ff0"}
MARK_SIGNS = {"added": "+", "removed": "−", "changed": "~", "moved": "↕"}
"""What became of a part between two architectures: never told by the colour alone."""
INK = {"light": "#1c2333", "dark": "#e6e9f2"}
"""Text that must be read at a glance, where it is known on which background it stands."""
GRID = "rgba(128,136,149,0.22)"
CLEAR = "rgba(0,0,0,0)"
SERIES_COLOURS = (
    "#4c78dd",
    "#f08a24",
    "#2fa36b",
    "#d64f8a",
    "#9467d8",
    "#23a6bd",
    "#b0892f",
    "#e5484d",
)
"""Eight colours for runs on one chart, in the order in which they are given out."""
MEMORY_COLOURS = {
    "weights": "#4c78dd",
    "kept for backward": "#f08a24",
    "gradients": "#2fa36b",
    "optimiser state": "#d64f8a",
    "forward work": "#9467d8",
    "backward work": "#23a6bd",
    "optimiser work": "#8c5a3c",
    "batch": "#b0892f",
    "buffers": "#5f7f95",
    "other": "#8d99ae",
}
"""One colour for each category of memory, the same in every figure; red is left to the line at the peak."""
LEGEND_ABOVE: dict[str, Any] = {
    "orientation": "h",
    "y": 1.0,
    "yanchor": "bottom",
    "x": 0,
    "title": {"text": ""},
    "traceorder": "normal",
}
"""A legend between title and figure; under a figure of few rows it would lie on the name of the axis."""
LINE = {
    "predicted": {"dash": "dash", "width": 2},
    "measured": {"dash": "solid", "width": 2},
}
"""How lines show where their numbers come from: predicted dashed, measured solid."""
BAR_PATTERN = {"predicted": "/", "measured": ""}
"""How bars show where their numbers come from: predicted hatched, measured filled."""
SOURCE_COLOURS: dict[Source, str] = {"predicted": "#4c78dd", "measured": "#f08a24"}
"""The colours of the words *predicted* and *measured*, on cards as on the canvas."""

_AXIS = {
    "gridcolor": GRID,
    "zerolinecolor": GRID,
    "linecolor": GRID,
    "title": {"standoff": 8},
    "automargin": True,
}
_TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 13},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "colorway": list(SERIES_COLOURS),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left"},
    }
)


def kind_colour(kind: str) -> str:
    """Return the colour of a family of components, grey for one that has none."""
    return KIND_COLOURS.get(kind, OTHER_COLOUR)


def with_alpha(colour: str, alpha: float) -> str:
    """Return a ``#rrggbb`` colour with an opacity between 0 and 1."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def memory_colour(category: str) -> str:
    """Return the colour of a category of memory, grey for one that is not known."""
    return MEMORY_COLOURS.get(category, OTHER_COLOUR)


def series_colour(index: int) -> str:
    """Return the colour of the run at this place of a chart."""
    return SERIES_COLOURS[index % len(SERIES_COLOURS)]


def layout(title: str, **more: Any) -> dict[str, Any]:
    """Return the layout that all figures start from; ``title`` says what to see."""
    return {
        "template": _TEMPLATE,
        "title": {"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        "margin": {"l": 8, "r": 8, "t": 48 if title else 8, "b": 8},
        "legend": {"orientation": "h", "y": -0.2, "x": 0, "title": {"text": ""}},
        "hovermode": "closest",
        **more,
    }


def plain(text: str, letters: int = 60) -> str:
    """Shorten text from files to one line and make its HTML harmless, for use in figures."""
    line = " ".join(text.split())
    return html.escape(line if len(line) <= letters else line[: max(1, letters - 1)] + "…")
