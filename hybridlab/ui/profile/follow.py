"""A profile on its way: where it stands, how to stop it, and what it became."""

from __future__ import annotations

import streamlit as st

from hybridlab.runs.home import run_folder
from hybridlab.runs.profile_request import PROFILE
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell
from hybridlab.ui.profile.kind import KIND
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.runs import opened
from hybridlab.ui.runs.head import Words
from hybridlab.ui.runs.one import log

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
    run = opened.opened(run_id, (KIND,), _WORDS, "Profile something")
    if run is None:
        return None
    if run.state is not RunState.DONE:
        _on_its_way(run)
        return None
    folder = run_folder(run_id) / PROFILE
    with shell.told():
        found = dict(figures(folder / "profile.json"))
        found["training"] = dict(run.spec.get("training") or {})
        found["task"] = found["training"].get("task", "")
        key = f"profile.{run_id}"
        return Opened(
            key, run.name, "profile", folder, found, str(run.spec.get("architecture", ""))
        )
    return None


def _on_its_way(run: Run) -> None:
    """Show progress while it is under way, and why it came to nothing where it did."""
    if run.state.active:
        opened.under_way(run, _told)
        st.caption(
            "You may leave this page; the profile goes on and is listed under Profile. It uses cores as a training "
            "does, and waits for its turn like one."
        )
        return
    opened.in_vain(run, "profile")
    log(run.id)


def _told(run: Run) -> tuple[float, str]:
    """Say what the worker is at."""
    if run.state is RunState.QUEUED:
        return 0.0, "Queued; it starts as soon as cores are free"
    doing = _DOING[min(run.step, len(_DOING) - 1)] if run.steps else "Starting"
    return run.step / len(_DOING), "Stopping" if run.cancel_requested else doing
