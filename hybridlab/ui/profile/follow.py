"""A profile on its way: where it stands, how to stop it, and what it became."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.home import run_folder
from hybridlab.runs.profile_request import PROFILE
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.kind import KIND
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.runs.head import Words, head
from hybridlab.ui.runs.one import log

_EVERY_S = 0.5
_DOING = (
    "Predicting what every operator does",
    "Measuring the components alone, for the prediction",
    "Timing steps without the profiler",
    "Running steps under the profiler",
    "Following one step operator by operator",
    "Running it on each class of input",
    "Running it at several lengths and batches",
    "Writing tables and findings",
)
"""What a worker is at, by the stages of a profile session."""


_WORDS = Words(
    kind="profile",
    again="Profile again",
    icon=":material/refresh:",
    again_help="Measure it anew, under the same settings.",
    cancel_help="Stop after what it is at; nothing is kept of it.",
    another="New profile",
    page=shell.PROFILE,
)


def opened_run(run_id: str) -> Opened | None:
    """Return what a profile run became; while it is on its way, or where it failed, that is shown and None returned."""
    try:
        run = reader(run_id).look()
    except HybridLabError as error:
        shell.problems(error.problems)
        if st.button("Profile something", icon=":material/arrow_back:"):
            shell.go(shell.PROFILE)
        return None
    if run.kind != KIND:
        shell.go(shell.TRAIN, run=run_id)
    batch = dict(run.spec.get("training") or {}).get("batch")
    head(run, _WORDS, [f"batch {batch}"] if batch else [])
    if run.state is not RunState.DONE:
        _on_its_way(run)
        return None
    folder = run_folder(run_id) / PROFILE
    with shell.told():
        found = dict(figures(folder / "profile.json"))
        found["task"] = dict(run.spec.get("training") or {}).get("task", "")
        key = f"profile.{run_id}"
        return Opened(
            key, run.name, "profile", folder, found, str(run.spec.get("architecture", ""))
        )
    return None


def _on_its_way(run: Run) -> None:
    """Show progress while it is under way, and why it came to nothing where it did."""
    if run.state.active:
        st.fragment(_progress, run_every=_EVERY_S)(run.id, run.state)
        st.caption(
            "You may leave this page; the profile goes on and is listed under Profile. It uses cores as a training "
            "does, and waits for its turn like one."
        )
        return
    if run.error:
        st.error(shell.escaped(run.error.partition("\n")[0]), icon=":material/error:")
    else:
        st.info(
            f"This profile was {run.state.lower()} before it had figures to show.",
            icon=":material/info:",
        )
    log(run.id)


def _progress(run_id: str, drawn: RunState) -> None:
    """Say what the worker is at; the whole page is drawn again when that has ended."""
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            st.rerun()
        if run.state is RunState.QUEUED:
            st.progress(0.0, text="Queued; it starts as soon as cores are free …")
        elif run.cancel_requested:
            st.progress(run.step / len(_DOING), text="Stopping …")
        else:
            doing = _DOING[min(run.step, len(_DOING) - 1)] if run.steps else "Starting"
            st.progress(run.step / len(_DOING), text=f"{doing} …")
