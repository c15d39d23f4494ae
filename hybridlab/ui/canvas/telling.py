"""Keeps the canvas told beside the design: which edits Python has, and what a training measured of its components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.runs.record import RunState
from hybridlab.ui import state
from hybridlab.ui.canvas.component import desk_of
from hybridlab.ui.canvas.measured import message

_LIVE_S, _IDLE_S = 1.0, 5.0
_teller = st.components.v2.component(
    "hybridlab_canvas_telling",
    js=Path(__file__).with_name("telling.js").read_text(encoding="utf-8"),
    css=(
        '[data-testid="stLayoutWrapper"]:has(> .st-key-canvas_told),\n'
        ".st-key-canvas_told { display: none; }\n"
    ),
    isolate_styles=False,
)


def keep_told(design: state.Design) -> None:
    """Keep the canvas told, first of all that its edits have come; only this little part of the page is drawn again.

    Every second while the design trains; otherwise now and then, since thirty idle designers are no reason to keep a
    core busy.
    """
    drawn = _told(design)
    live = _live(drawn)

    def send() -> None:
        nonlocal drawn
        told, drawn = drawn or _told(design), {}
        _send(told, live)

    st.fragment(send, run_every=_LIVE_S if live else _IDLE_S)()


def _told(design: state.Design) -> dict[str, Any]:
    desk = desk_of(design)
    taken = {"acknowledged": dict(desk.acknowledged), "taken_ms": 1e3 * desk.taken_s}
    return message(design, desk.seed) | taken


def _send(told: dict[str, Any], drawn_live: bool) -> None:
    _teller(key="design.telling", data=told, height=1)
    if _live(told) != drawn_live:
        st.rerun()


def _live(told: Mapping[str, Any]) -> bool:
    return told["run"] is not None and RunState(told["run"]["state"].upper()).active
