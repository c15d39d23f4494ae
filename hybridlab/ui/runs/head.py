"""The head of a run's page: its name and state, what can be done with it, and where to go from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs import launcher
from hybridlab.runs.record import Run
from hybridlab.ui import shell, state
from hybridlab.ui.runs.states import badge

_NOTICE = "run_notice"


@dataclass(frozen=True)
class Words:
    """What a kind of run calls going on or starting again, another one of it, and itself."""

    kind: str
    again: str
    icon: str
    again_help: str
    cancel_help: str
    another: str
    page: str


def head(run: Run, words: Words, said: Sequence[str] = ()) -> None:
    """Show a run's name and state, cancel or take it up again, open its design, or set another one up.

    ``said`` is told beside its id, its threads and its device.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(shell.escaped(run.name), anchor=False, width="stretch")
        badge(run.state)
        if run.state.active:
            st.button(
                "Cancel",
                icon=":material/stop:",
                on_click=_do,
                args=(launcher.cancel, run.id),
                disabled=run.cancel_requested,
                help=words.cancel_help,
            )
        if run.state.resumable:
            st.button(
                words.again,
                icon=words.icon,
                type="primary",
                on_click=_do,
                args=(launcher.resume, run.id),
                help=words.again_help,
            )
        if st.button("Open in designer", icon=":material/schema:"):
            state.open_design(str(run.spec.get("architecture", "")), f"{words.kind} {run.name}")
            shell.go(shell.DESIGN)
        if st.button(words.another, icon=":material/add:"):
            shell.go(words.page)
    told = [f"Run {run.id}", f"{run.threads} thread{'s' if run.threads > 1 else ''}", *said]
    told += [f"device {run.granted}"] if run.granted else []
    st.caption(", ".join(told))
    shell.problems(state.keep(_NOTICE, []))
    state.put(_NOTICE, [])


def _do(action: Callable[[str], object], run_id: str) -> None:
    """Cancel or take up again, as a callback; errors are told on the page."""
    try:
        action(run_id)
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))
