"""Finding a learning rate on the Train page: start the test, follow it, look at its curve, take what it suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError, Problem, RunError
from hybridlab.runs import launcher
from hybridlab.runs.home import run_folder
from hybridlab.runs.launcher import submit
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened, figures
from hybridlab.ui.runs.one import log
from hybridlab.ui.runs.states import badge
from hybridlab.ui.train import setup
from hybridlab.ui.train.groups import take_rate
from hybridlab.views.rate_curve import rate_info, rate_plot

KIND = "lr_find"
"""How these tests are known among runs."""
_FILE = "rates.json"
_EVERY_S = 0.5
_NOTICE = "rates.notice"
_ALL = "all weights"


def finder(
    text: str, preset: str | None, task: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Offer to look for a learning rate, of all or of one group, and show the last test of this task."""
    name = f"rates.run.{task['name']}"
    kept = str(state.keep(name, ""))
    with st.expander(
        "Find a learning rate", icon=":material/show_chart:", key="train.rates", expanded=bool(kept)
    ):
        st.caption(
            "Lets the rate grow from step to step, on this task's batches, until the loss runs away; the weights are "
            "thrown away afterwards. It runs in the background and takes about 200 steps."
        )
        groups = [
            str(group["name"])
            for group in settings.get("groups", ())
            if group.get("name") and not group.get("frozen")
        ]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = st.selectbox(
                "Rate of",
                [_ALL, *groups],
                key="rates.group",
                help="For a group, the rates of all others are held.",
            )
            pressed = st.button("Find a rate", icon=":material/search:", key="rates.start")
        if pressed and (made := _start(text, preset, settings, chosen)):
            state.put(name, made)
            kept = made
        shell.problems(state.keep(_NOTICE, []))
        state.put(_NOTICE, [])
        if kept and not _shown(kept):
            state.put(name, "")  # somebody has deleted it


def _start(
    text: str, preset: str | None, settings: Mapping[str, Any], chosen: str | None
) -> str | None:
    """Check and queue a test; return its run, or None where something is wrong, which is told."""
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(text, settings)
    if answer.problems:
        shell.problems(answer.problems)
        return None
    group = "" if chosen in (None, _ALL) else str(chosen)
    made = answer.value
    spec = {
        "architecture": text,
        "training": made["training"],
        "preset": preset,
        "lr_find": {"group": group},
    }
    title = f"{made['name']}, rate of {group or _ALL}"
    try:
        return submit(KIND, title, spec, device=made["training"]["device"]).id
    except HybridLabError as error:
        shell.problems(error.problems)
        return None


def opened(run: Run) -> None:
    """Show a test on a page of its own, as it is opened from the list of runs."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(shell.escaped(run.name), anchor=False, width="stretch")
        badge(run.state)
        if st.button("Set up a training", icon=":material/arrow_back:"):
            shell.go(shell.TRAIN)
    shell.problems(state.keep(_NOTICE, []))
    state.put(_NOTICE, [])
    _shown(run.id)
    if not run.state.active:
        log(run.id)


def _shown(run_id: str) -> bool:
    """Show where a test stands, or its curve and what to do with it; say whether there is such a test."""
    try:
        run = reader(run_id).look()
    except RunError:
        return False
    except HybridLabError as error:
        shell.problems(error.problems)
        return True
    if run.state.active:
        st.fragment(_progress, run_every=_EVERY_S)(run_id, run.state)
        st.button(
            "Cancel",
            icon=":material/stop:",
            key=f"rates.cancel.{run_id}",
            on_click=_cancel,
            args=(run_id,),
            disabled=run.cancel_requested,
        )
    elif run.state is RunState.DONE:
        with shell.told():
            _found(run)
    elif run.error:
        st.error(shell.escaped(run.error.partition("\n")[0]), icon=":material/error:")
    else:
        st.info(
            f"This test was {run.state.lower()} before it had a curve to show; start another one.",
            icon=":material/info:",
        )
    return True


def _found(run: Run) -> None:
    """Show the curve, the suggestion with its reason, and the button that takes it."""
    folder = run_folder(run.id)
    found = figures(folder / _FILE)
    info = rate_info(found)
    settings = dict(run.spec.get("training") or {})
    what = Opened(f"rates.{run.id}", run.name, "profile", folder, found)
    title = "Training loss over the learning rate"
    figure(what, "learning rate", title, rate_plot(info), info.table())
    st.caption(shell.escaped(str(found["reason"])))
    if info.suggestion is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Use this rate",
            type="primary",
            icon=":material/check:",
            key=f"rates.use.{run.id}",
            on_click=_use,
            args=(str(settings.get("task", "")), info.group, info.suggestion),
            help=f"Writes {info.suggestion:g} into the settings"
            + (f" of the group {info.group}." if info.group else "."),
        )
        now, _ = setup.kept_settings({"name": settings.get("task", "")})
        if _in_use(now, info.group) == info.suggestion:
            st.caption(":material/check: This rate is in the settings.")


def _in_use(now: Mapping[str, Any], group: str) -> float | None:
    """Return the rate that the settings have of their own for a group, or for all where it is empty."""
    mine = [each for each in now.get("groups", ()) if each.get("name") == group]
    found = now.get("learning_rate") if not group else None
    if mine and "rate" not in mine[0]:
        found = mine[0].get("learning_rate")
    return None if found is None else float(found)


def _use(task: str, group: str, rate: float) -> None:
    """Write a rate into the settings that this session keeps for a task."""
    now, change = setup.kept_settings({"name": task})
    if not group:
        change("learning_rate", rate)
    elif not take_rate([dict(each) for each in now.get("groups", ())], group, rate, change):
        state.put(
            _NOTICE,
            [
                Problem(
                    "groups", f"there is no group {group!r} in the settings any more", fix="add it"
                )
            ],
        )


def _cancel(run_id: str) -> None:
    try:
        launcher.cancel(run_id)
    except HybridLabError as error:
        state.put(_NOTICE, list(error.problems))


def _progress(run_id: str, drawn: RunState) -> None:
    """Say how far the test is; the whole page is drawn again when that has ended."""
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            page_again()
        if run.state is RunState.QUEUED:
            st.progress(0.0, text="Queued; it starts as soon as cores are free …")
            return
        share = min(1.0, run.step / run.steps) if run.steps else 0.0
        half = "trying rates" if share <= 0.5 else "the same batches at rate 0"
        text = (
            f"Step {run.step:,} of at most {run.steps:,}: {half} …" if run.steps else "Starting …"
        )
        st.progress(share, text="Stopping …" if run.cancel_requested else text)
