"""Profiling a training that is under way: ask for its next steps, take the trace, open it in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.profile_request import (
    MOST_REPEATS,
    MOST_STEPS,
    MOST_WAIT,
    MOST_WARM_UP,
    ProfileRequest,
    ProfileState,
    ask,
    look,
    traces,
)
from hybridlab.runs.record import Run
from hybridlab.runs.traces import add_from_run
from hybridlab.ui import shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.live.reader import reader
from hybridlab.ui.train import tensorboard
from hybridlab.units import format_bytes

_EVERY_S = 1.0
_STEPS = 20
_NOTICE = "profile_notice"


def profiling(run: Run) -> None:
    """Offer a profile of the next steps while the run goes on, and the traces that it has."""
    if not run.state.active and not traces(run.id) and look(run) is None:
        return
    every = _EVERY_S if run.state.active else None
    with st.container(border=True):
        st.markdown("**Profile**")
        if run.state.active:
            _ask(run)
        st.fragment(_came, run_every=every)(run.id, len(traces(run.id)))
        tensorboard.button(run.id)


def _ask(run: Run) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        steps = st.number_input(
            "Steps",
            min_value=1,
            max_value=MOST_STEPS,
            value=_STEPS,
            key="train.profile_steps",
            width=120,
        )
        plan = _schedule()
        st.button(
            f"Profile the next {steps} steps",
            icon=":material/monitoring:",
            on_click=_request,
            args=(run.id, int(steps), plan),
            help="torch.profiler records them in the running training, which goes on with the same numbers.",
        )


def _schedule() -> dict[str, int]:
    """Offer what comes before the steps and how often they come; return it as ``ask`` takes it."""
    with st.popover("Schedule", icon=":material/schedule:"):
        wait = st.number_input(
            "Wait (steps)",
            min_value=0,
            max_value=MOST_WAIT,
            value=0,
            key="train.profile_wait",
            help="So many steps go by before each recording, without the profiler.",
        )
        warm_up = st.number_input(
            "Warm-up (steps)",
            min_value=1,
            max_value=MOST_WARM_UP,
            value=1,
            key="train.profile_warm_up",
            help="Steps under the profiler that are thrown away: the first ones pay for its start.",
        )
        repeat = st.number_input(
            "Recordings",
            min_value=1,
            max_value=MOST_REPEATS,
            value=1,
            key="train.profile_repeat",
            help="How often to wait, warm up and record; each recording is a trace of its own.",
        )
    return {"wait": int(wait), "warm_up": int(warm_up), "repeat": int(repeat)}


def _request(run_id: str, steps: int, plan: Mapping[str, int]) -> None:
    """Ask, as a callback; errors are told on the page."""
    notice: list[Problem] = []
    try:
        ask(run_id, steps, **plan)
        ensure_supervisor()
    except HybridLabError as error:
        notice = list(error.problems)
    state.put(_NOTICE, notice)


def _came(run_id: str, drawn: int) -> None:
    """Show how far the profile has come, and the newest trace to take away; a new one draws the page again."""
    shell.problems(state.keep(_NOTICE, []))
    state.put(_NOTICE, [])
    try:
        found = look(reader(run_id).look())
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if found is not None:
        _tell(found)
    there = traces(run_id)
    if len(there) != drawn and (found is None or not found.state.open):
        page_again()
    if there:
        chosen = _one_of(there)
        st.download_button(
            "Trace (Kineto JSON, gzip)",
            chosen.read_bytes,
            chosen.name,
            "application/gzip",
            icon=":material/download:",
            on_click="ignore",
            key="train.trace",
            help="TensorBoard with torch-tb-profiler, Perfetto and chrome://tracing open it.",
        )
        if st.button(
            "Look at the trace",
            icon=":material/monitoring:",
            key="train.look",
            help="Opens it on the Profile page: steps, components, timeline, operators, memory.",
        ):
            with shell.told():
                shell.go(shell.PROFILE, trace=add_from_run(run_id, chosen.name).id)


def _one_of(there: Sequence[Path]) -> Path:
    """Let the user choose among several traces; the newest stands first."""
    if len(there) == 1:
        return there[0]
    names = [trace.name for trace in there]
    name = st.selectbox(f"Trace (of {len(there)}, the newest first)", names, key="train.traces")
    return there[names.index(name)] if name in names else there[0]


def _tell(found: ProfileRequest) -> None:
    if found.state is ProfileState.ASKED:
        st.caption(f":material/hourglass_top: Asked for the next {found.steps} steps …")
    elif found.state is ProfileState.RECORDING:
        st.caption(
            f":material/radio_button_checked: Recording {found.steps} steps from step "
            f"{found.first_step:,} on{_which(found)} …"
        )
    elif found.state is ProfileState.WRITTEN and found.first_step is not None:
        last = found.first_step + found.recorded - 1
        st.caption(
            f":material/check: Steps {found.first_step:,} to {last:,} are in the trace, "
            f"{format_bytes(found.size_bytes)}.{_others(found)} {shell.escaped(found.message)}"
        )
    else:
        st.warning(shell.escaped(found.message), icon=":material/warning:")


def _which(found: ProfileRequest) -> str:
    return f", recording {found.written + 1} of {found.repeat}" if found.repeat > 1 else ""


def _others(found: ProfileRequest) -> str:
    if found.written < 2:
        return ""
    return f" It is the newest of {found.written} recordings; choose below."
