"""A measurement of a plan on its way, and what was measured before."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import shell
from hybridlab.ui.live.reader import reader
from hybridlab.ui.memory.kind import FUSE, KIND
from hybridlab.ui.memory.work import Work, of_run
from hybridlab.ui.runs.active import line
from hybridlab.ui.runs.head import Words, head
from hybridlab.ui.runs.one import log

_EVERY_S = 0.5
_MOST = 8
_WORDS = Words(
    kind="plan",
    again="Measure again",
    icon=":material/refresh:",
    again_help="Measure it anew, under the same settings.",
    cancel_help="Stop after the part it is at; nothing is kept of it.",
    another="Another design",
    page=shell.MEMORY,
)


def opened_run(run_id: str) -> Work | None:
    """Show where the measurement of an address stands; return what it is of, or None where there is none."""
    try:
        run = reader(run_id).look()
    except HybridLabError as error:
        shell.problems(error.problems)
        if st.button("Plan something", icon=":material/arrow_back:"):
            shell.go(shell.MEMORY)
        return None
    if run.kind not in (KIND, FUSE):
        shell.go(shell.TRAIN, run=run_id)
    batch = dict(run.spec.get("training") or {}).get("batch")
    head(run, _WORDS, [f"batch {batch}"] if batch else [])
    if run.state.active:
        if run.kind == KIND:  # what fuses is followed in its own section
            st.fragment(_progress, run_every=_EVERY_S)(run.id, run.state)
    elif run.error:
        st.error(shell.escaped(run.error.partition("\n")[0]), icon=":material/error:")
    elif run.state is not RunState.DONE:
        st.info(
            f"This measurement was {run.state.lower()} before it had figures to show.",
            icon=":material/info:",
        )
    if run.state is RunState.FAILED:
        log(run.id)
    with shell.told():
        return of_run(run)
    return None


def earlier() -> None:
    """List what was measured before, the newest first."""
    st.markdown("**Plans that were measured**")
    with shell.told():
        ensure_supervisor()
        runs: list[Run] = open_store().list(kind=KIND, limit=_MOST)
        if not runs:
            st.caption(
                "None yet. Set a budget below, then *Apply and measure* runs the step with its plan and puts what was "
                "measured beside what was predicted."
            )
        for run in runs:
            line(run)


def _progress(run_id: str, drawn: RunState) -> None:
    """Say what the worker is at; the whole page is drawn again when that has ended."""
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            st.rerun()
        if run.state is RunState.QUEUED:
            st.progress(0.0, text="Queued; it starts as soon as a core is free …")
            return
        share = run.step / run.steps if run.steps else 0.0
        doing = "Building the network, and measuring components that are new to this machine"
        if run.steps and run.step > run.steps - 3:
            doing = "Following the memory events of a step with the plan, and as it is"
        elif run.step:
            doing = "Timing steps with the plan and as they are, in turn"
        st.progress(share, text="Stopping …" if run.cancel_requested else f"{doing} …")
