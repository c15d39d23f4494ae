"""One run, live: where it stands, its curves, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.home import home_id
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.training.stage_spec import stage_names
from hybridlab.ui import predictions, shell
from hybridlab.ui.again import page_again
from hybridlab.ui.live import pump
from hybridlab.ui.live.component import chart
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.start import of_training
from hybridlab.ui.runs.head import Words, head
from hybridlab.ui.runs.one import log, metrics_csv
from hybridlab.ui.train import rates
from hybridlab.ui.train.distilled import distilled
from hybridlab.ui.train.flow import gradient_flow
from hybridlab.ui.train.network import network
from hybridlab.ui.train.own_files import with_unit
from hybridlab.ui.train.panels import panels
from hybridlab.ui.train.profiling import profiling
from hybridlab.ui.train.result import result
from hybridlab.ui.train.setbacks import setbacks
from hybridlab.ui.train.stages import stage_of
from hybridlab.ui.train.task_views import several_tasks
from hybridlab.ui.train.usage import usage
from hybridlab.units import format_seconds

_WORDS = Words(
    kind="run",
    again="Resume",
    icon=":material/play_arrow:",
    again_help="Go on from the last checkpoint.",
    cancel_help="Stop after the current step; the training can be resumed later.",
    another="New training",
    page=shell.TRAIN,
)


def watch(run_id: str) -> None:
    """Show a run; the page may be closed and opened again at any time.

    The network has a place of its own that stays where it is when the run ends and other things come and go: it is
    drawn again by itself, and a browser cannot take that for a place where something else stands by then.
    """
    above, below = st.container(), st.container()
    with above:
        run = _run(run_id)
    if run is None:
        return
    with below:
        usage(run)
        profiling(run)
        task = _task(run)
        network(run, task)
        several_tasks(run)
        gradient_flow(run, task)
        if not run.state.active:
            _afterwards(run)


def _run(run_id: str) -> Run | None:
    """Show where a run stands, and its curves; None where there is no such run."""
    try:
        run = reader(run_id).look()
    except HybridLabError as error:
        shell.problems(error.problems)
        if st.button("Set up a training", icon=":material/arrow_back:"):
            shell.go(shell.TRAIN)
        return None
    if run.kind == rates.KIND:
        rates.opened(run)
        return None
    head(run, _WORDS)
    if run.error:
        _failure(run)
    task = _task(run)
    shown = panels(task, reader(run_id).names())
    channel = f"train.{run_id}"
    if run.state is RunState.DONE:
        result(run, task)
        distilled(run)
    pump.begin(channel)
    titles = [panel.title for panel in shown]
    if run.state.active:
        st.fragment(_refresh, run_every=1.0)(run_id, run.state, titles)
    else:
        _refresh(run_id, run.state, titles)
    stages = stage_names(run.spec.get("training"))
    chart(channel, shown, [{"id": run.id, "name": run.name, "colour": 0, "stages": stages}])
    return run


def _task(run: Run) -> Mapping[str, Any] | None:
    """Return what is known of the task that a run is on, with the unit of the user's own data."""
    training = _training(run)
    entry = predictions.task(str(training.get("task", "")))
    params = training.get("task_params")
    return with_unit(entry, params if isinstance(params, dict) else {})


def _training(run: Run) -> dict[str, object]:
    training = run.spec.get("training")
    return dict(training) if isinstance(training, dict) else {}


def _refresh(run_id: str, drawn: RunState, titles: list[str]) -> None:
    """Show progress and send new points; draw the whole page again when the state or the meters have changed."""
    source = reader(run_id)
    try:
        run = source.look()
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if run.state is not drawn:
        page_again()
    if run.state is not RunState.DONE:
        _progress(run)
    setbacks(source, _training(run))
    task = _task(run)
    shown = panels(task, source.names())
    if [
        panel.title for panel in shown
    ] != titles:  # a meter's first points want a chart of their own
        page_again()
    pump.send(f"train.{run_id}", shown, [run_id])


_PACE_STEPS = 5
"""Steps after which a pace is told: the first ones warm up, and would promise half an hour for a minute."""


def _progress(run: Run) -> None:
    if run.state is RunState.QUEUED:
        st.progress(0.0, text=_queue(run))
        return
    share = min(1.0, run.step / run.steps) if run.steps else 0.0
    text = (
        f"Step {run.step:,} of {run.steps:,}"
        if run.steps
        else "Starting: importing and reading data"
    )
    if stage := stage_of(run):
        text += f", {stage}"
    left = reader(run.id).seconds_left()
    if run.state is RunState.RUNNING and run.cancel_requested:
        text += ", stopping after this step"
    elif run.state is RunState.RUNNING and left is not None and run.step >= _PACE_STEPS:
        text += f", about {format_seconds(left)} left at this pace"
    st.progress(share, text=text)


def _queue(run: Run) -> str:
    """Say where in the queue a run stands."""
    waiting = [other for other in open_store().active(home_id()) if other.state is RunState.QUEUED]
    place = next((index for index, other in enumerate(waiting, 1) if other.id == run.id), 0)
    if place <= 1:
        return "Next in the queue; it starts as soon as cores are free"
    return f"Number {place} in the queue; it starts when the runs before it have ended"


def _failure(run: Run) -> None:
    first, _, rest = run.error.partition("\n")
    st.error(shell.escaped(first), icon=":material/error:")
    if rest.strip():
        with st.expander("All of the message"):
            st.code(run.error, language=None)


def _afterwards(run: Run) -> None:
    """Show what an ended run leaves behind: its curves as a file, and its log."""
    with st.container(horizontal=True):
        if run.state is RunState.DONE:
            of_training(run)
        st.download_button(
            "Metrics (CSV)",
            lambda: metrics_csv(run.id),
            f"{run.id}-metrics.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    log(run.id)
