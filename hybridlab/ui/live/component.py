"""The two components of a live chart: one draws and is mounted once, one only carries new points."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


def _text(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


_chart = st.components.v2.component(
    "hybridlab_live_chart",
    html='<div class="live"></div>\n',
    css=_text("vendor/uPlot.min.css", "chart.css"),
    js=_text("vendor/uPlot.iife.min.js", "chart.js"),
)
_feed = st.components.v2.component("hybridlab_live_feed", js=_text("feed.js"))


@dataclass(frozen=True)
class Panel:
    """One small chart: which metrics it shows, and how.

    ``width`` is in twelfths of the row, ``height`` in pixels; ``scale`` turns stored values into ``unit``; ``runs``
    limits the panel to some of the chart's runs; ``names`` are the metrics' names for people.
    """

    title: str
    label: str
    metrics: tuple[str, ...]
    unit: str = ""
    scale: float = 1.0
    width: int = 6
    height: int = 220
    smooth: bool = False
    points: bool = False
    log: bool = False
    zero: bool = False
    range: tuple[float, float] | None = None
    runs: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    colour: int = 0


def chart(channel: str, panels: list[Panel], runs: list[dict[str, Any]]) -> None:
    """Mount a chart; ``runs`` are ``{"id", "name", "colour"}``, the colour being a place in the theme's colours.

    Where a run has ``stages``, their names, the steps at which they begin are drawn.
    """
    data = {"channel": channel, "panels": [asdict(panel) for panel in panels], "runs": runs}
    _chart(key=f"chart.{channel}", data=data, height="content")


def feed(channel: str, message: dict[str, Any], lost: Any) -> None:
    """Send points to the chart of a channel; ``lost`` is called when the browser missed some and asks for all."""
    packed = json.dumps(
        {"channel": channel, **message}
    ).encode()  # a mapping would be written twice
    _feed(key=f"feed.{channel}", data=packed, height=1, on_resync_change=lost)
