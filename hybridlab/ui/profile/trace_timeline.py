"""The timeline of a trace: which threads and streams, between which moments."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybridlab.ui import shell
from hybridlab.ui.labels import distinct
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.trace_timeline import Colouring, timeline_info, timeline_plot

_COLOURINGS: dict[Colouring, str] = {
    "kind": "Kind of work",
    "component": "Component",
    "name": "Name",
}
_MOST_LANES = 6
_WHOLE = "All"
_PIECES = 400


def draw(opened: Opened) -> None:
    """Show the events of a trace over time."""
    bars, lanes = opened.table("flame"), opened.table("lanes")
    if bars.empty:
        st.info("This file holds no events with a duration.", icon=":material/timeline:")
        return
    start = float(bars["start_us"].min())
    end = float((bars["start_us"] + bars["dur_us"]).max())
    titles = distinct(dict(zip(lanes["lane"], lanes["title"], strict=True)))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        colouring: Colouring = st.segmented_control(
            "Colours",
            list(_COLOURINGS),
            default="kind",
            format_func=lambda name: _COLOURINGS[name],
            required=True,
            key=f"{opened.key}.timeline.colours",
        )
        first = _first_lanes(lanes)
        chosen = st.multiselect(
            "Threads and streams",
            list(titles),
            default=first,
            format_func=lambda lane: titles[lane],
            key=f"{opened.key}.timeline.lanes",
        )
    seen = _window(opened, start, end)
    if not chosen:
        st.info("Choose a thread or a stream.", icon=":material/timeline:")
        return
    info = timeline_info(bars, lanes[lanes["lane"].isin(chosen)], seen, colouring)
    figure(opened, "timeline", "Events over time", timeline_plot(info), info.bars)
    st.caption(_said(opened))


def _first_lanes(lanes: pd.DataFrame) -> list[int]:
    """Return the lanes that are shown at first: every device's streams and the busiest threads."""
    device = lanes.loc[lanes["place"] == "device"].sort_values("events", ascending=False)
    host = lanes.loc[lanes["place"] == "host"]
    streams = device["lane"].tolist()[: _MOST_LANES - 2]
    return sorted([*host["lane"].tolist()[: _MOST_LANES - len(streams)], *streams])


def _window(opened: Opened, start: float, end: float) -> tuple[float, float]:
    """Let a person choose a step or a range; return it in µs."""
    steps = opened.table("steps") if opened.figures["steps_recorded"] else pd.DataFrame()
    step = _WHOLE
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(steps) > 1:
            names = [_WHOLE, *map(str, steps["step"])]
            step = st.selectbox("Step", names, key=f"{opened.key}.timeline.step", width=140)
        if step != _WHOLE:
            row = steps[steps["step"].astype(str) == step].iloc[0]
            start = float(row["start_us"])
            end = start + float(row["duration_us"])
        span = max(end - start, 1e-3)
        low, high = st.slider(
            "Part of it, % of the time",
            0.0,
            100.0,
            (0.0, 100.0),
            step=100.0 / _PIECES,
            format="%.2f",
            key=f"{opened.key}.timeline.part.{step}",
        )
    high = max(high, low + 100.0 / _PIECES)
    return start + span * low / 100, start + span * high / 100


def _said(opened: Opened) -> str:
    kept = opened.table("flame_kept")
    said = [
        "Bars that are too short to be told apart here stand together in one pale bar; a smaller part shows them one "
        "by one."
    ]
    if not kept.empty:
        events, single, frames = (
            int(kept.iloc[0][name]) for name in ("events", "single", "frames")
        )
        if single < events:
            said.append(
                f"Of {events:,} events the report keeps the {single:,} longest; the others are only kept together."
            )
        if frames:
            said.append(f"{frames:,} frames of Python that are no modules are left out.")
    return shell.escaped(" ".join(said))
