"""Runs that are under way, to go and watch."""

from __future__ import annotations

import streamlit as st

from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.record import ACTIVE, Run
from hybridlab.runs.store import open_store
from hybridlab.ui import shell
from hybridlab.ui.memory.kind import BESIDE
from hybridlab.ui.memory.kind import KIND as PLAN
from hybridlab.ui.profile.kind import KIND as PROFILE
from hybridlab.ui.runs.states import badge


def running_now() -> None:
    """List the runs that are queued or running, each with a way to its live view."""
    with shell.told():
        ensure_supervisor()
        runs = open_store().list(states=ACTIVE, limit=8)
        if not runs:
            return
        with st.container(border=True):
            st.markdown("**Under way**")
            for run in runs:
                line(run)


def line(run: Run) -> None:
    """Show a run on one line, with a way to it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        badge(run.state)
        if st.button(shell.escaped(run.name), key=f"watch.{run.id}", type="tertiary"):
            open_run(run)


def open_run(run: Run) -> None:
    """Go to the page that shows a run of its kind."""
    pages = {PROFILE: shell.PROFILE} | dict.fromkeys((PLAN, *BESIDE), shell.MEMORY)
    shell.go(pages.get(run.kind, shell.TRAIN), run=run.id)
