"""How the states of a run look."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from hybridlab.runs.record import RunState

_Colour = Literal["blue", "green", "red", "orange", "gray", "violet"]
LOOKS: dict[RunState, tuple[str, str, _Colour]] = {
    RunState.QUEUED: ("queued", ":material/schedule:", "gray"),
    RunState.RUNNING: ("running", ":material/play_circle:", "blue"),
    RunState.DONE: ("done", ":material/check_circle:", "green"),
    RunState.FAILED: ("failed", ":material/error:", "red"),
    RunState.CANCELLED: ("cancelled", ":material/cancel:", "gray"),
    RunState.INTERRUPTED: ("interrupted", ":material/pause_circle:", "orange"),
}
_SIGNS = {
    RunState.QUEUED: "◷",
    RunState.RUNNING: "▶",
    RunState.DONE: "✓",
    RunState.FAILED: "✗",
    RunState.CANCELLED: "■",
    RunState.INTERRUPTED: "❚❚",
}


def badge(state: RunState) -> None:
    """Show a state as a badge."""
    word, icon, colour = LOOKS[state]
    st.badge(word, icon=icon, color=colour)


def written(state: RunState) -> str:
    """Write a state with a sign, for tables."""
    return f"{_SIGNS[state]} {LOOKS[state][0]}"
