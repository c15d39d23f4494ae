"""The timeline view: what ran when in a measured step, a window of it at a time."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybridlab.ui.profile.chosen import choose
from hybridlab.ui.profile.figure import figure, widget_key
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.profile_timeline import MOST, timeline_info, timeline_plot

_NAME = "timeline"
_WHOLE = "whole step"


def timeline(opened: Opened) -> None:
    """Show the flame graph of a window of time that is chosen by phase and by a slider."""
    flame = opened.table("flame")
    if flame.empty:
        st.info("No operator of this profile has a measured time.", icon=":material/info:")
        return
    st.fragment(_window)(opened, flame)


def _window(opened: Opened, flame: pd.DataFrame) -> None:
    ends = flame["start_us"] + flame["dur_us"]
    spans = {_WHOLE: (float(flame["start_us"].min()), float(ends.max()))}
    for phase in dict.fromkeys(flame["phase"].astype(str)):
        mine = flame["phase"] == phase
        spans[phase] = float(flame["start_us"][mine].min()), float(ends[mine].max())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = st.segmented_control(
            "Part of the step",
            list(spans),
            default=_WHOLE,
            required=True,
            key=f"{opened.key}.timeline.part",
        )
        low, high = (us / 1e3 for us in spans[str(part)])
        high = max(high, low + 1e-3)
        step = (high - low) / 500
        chosen = st.slider(
            "Window (ms)",
            low,
            high,
            (low, high),
            step=step,
            format="%.2f",
            key=f"{opened.key}.timeline.window.{part}",
        )
    begin, end = chosen
    info = timeline_info(flame, (1e3 * begin, 1e3 * max(end, begin + step)))
    figure(
        opened,
        _NAME,
        "What ran when in a measured step",
        timeline_plot(info),
        flame,
        on_select=lambda: _clicked(opened),
    )
    hidden = (
        f"{info.hidden:,} rectangles of this window are too thin to be drawn (at most {MOST:,} are); make it narrower "
        "to see them. "
        if info.hidden
        else ""
    )
    st.caption(
        f"{hidden}Times are medians over the profiled steps, *measured*; "
        f"{100 * float(opened.figures.get('joined', 1.0)):.0f} % of the operators have one. "
        "Click a rectangle to choose its component everywhere."
    )


def _clicked(opened: Opened) -> None:
    """Choose the component of the rectangle that was clicked."""
    points = st.session_state[widget_key(opened, _NAME)]["selection"]["points"]
    if points and points[0].get("customdata") and points[0]["customdata"][0]:
        choose(str(points[0]["customdata"][0]))
