"""A profile on its way: where it stands, how to stop it, and what it became."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs import launcher
from hybridlab.runs.home import run_folder
from hybridlab.runs.profile_request import PROFILE
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell, state
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.kind import KIND
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.runs.one import log
from hybridlab.ui.runs.states import badge

_EVERY_S = 0.5
_NOTICE = "profile.notice"
_DOING = (
    "Predicting what every operator does",
    "Measuring the components alone, for the prediction",
    "Timing steps without the profiler",
    "Running steps under the profiler",
    "Following one step operator by operator",
    "Running it on each class of input",
    "Writing tables and findings",
)
"""What a worker is at, by the stages of a profile session."""


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
    _head(run)
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


def _head(run: Run) -> None:
    """Show the run's name and state, and where to go from it."""
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
            )
        elif run.state.resumable:
            st.button(
                "Profile again",
                icon=":material/refresh:",
                on_click=_do,
                args=(launcher.resume, run.id),
            )
        if st.button("Open in designer", icon=":material/schema:"):
            state.open_design(str(run.spec.get("architecture", "")), f"profile {run.name}")
            shell.go(shell.DESIGN)
        if st.button("New profile", icon=":material/add:"):
            shell.go(shell.PROFILE)
    settings = dict(run.spec.get("training") or {})
    said = [f"Run {run.id}", f"{run.threads} thread{'s' if run.threads > 1 else ''}"]
    said += [f"batch {settings['batch']}"] if settings.get("batch") else []
    said += [f"device {run.granted}"] if run.granted else []
    st.caption(", ".join(said))
    shell.problems(state.keep(_NOTICE, []))
    state.put(_NOTICE, [])


def _do(action: object, run_id: str) -> None:
    """Cancel or start again, as a callback; errors are told on the page."""
    try:
        action(run_id)  # type: ignore[operator]
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))


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
