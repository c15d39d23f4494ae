"""A measurement by a run of its own: queued, found again, followed, cancelled, or told why it came to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.launcher import cancel, submit
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import predictions, shell
from hybridlab.ui.memory.work import Work, without_plan
from hybridlab.ui.runs import opened

_MOST = 40
Doing = Callable[[int, int], str]
"""Says what a worker is at, by the parts that are done and how many there are."""


def queue(work: Work, kind: str, words: str, **more: Any) -> Run | None:
    """Queue a measurement of this step, ``more`` in its spec; what is wrong with the step is told, and gives None.

    Raises:
        HybridLabError: the store cannot be read or written.
    """
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(work.text, work.settings)
    if answer.problems:
        shell.problems(answer.problems)
        return None
    made = answer.value
    spec = {
        "architecture": work.text,
        "training": made["training"],
        "preset": work.preset,
        "asked": dict(work.settings),
        **{name: value for name, value in more.items() if value},
    }
    title = f"{made['name']}, {words}"
    return submit(kind, title, spec, threads=1, device=made["training"]["device"])


def newest(
    work: Work, kind: str, states: Sequence[RunState] | None = None, **more: Any
) -> Run | None:
    """Return the newest run that measured this step, or is about to, ``more`` in its spec; None where there is none.

    Raises:
        StoreError: the store cannot be read.
    """

    def same(run: Run) -> bool:
        spec = run.spec
        asked = (spec.get("asked"), without_plan(spec.get("training") or {}))
        mine = spec.get("architecture") == work.text and dict(work.settings) in asked
        return mine and all((spec.get(name) or None) == (more[name] or None) for name in more)

    return next(filter(same, open_store().list(kind=kind, states=states, limit=_MOST)), None)


def ended_well(run: Run, key: str, doing: Doing, cancel_help: str) -> bool:
    """Say whether a run has something to show; else show how far it is, with a way to cancel, or why it has nothing."""
    if run.state.active:
        opened.under_way(run, partial(told, doing=doing))
        st.button(
            "Cancel",
            icon=":material/stop:",
            key=f"{key}.cancel",
            on_click=lambda: _cancel(run.id),
            disabled=run.cancel_requested,
            help=cancel_help,
        )
    elif run.state is not RunState.DONE:
        said = run.error.partition("\n")[0] if run.error else f"It was {run.state.lower()}."
        st.error(shell.escaped(said), icon=":material/error:")
    return run.state is RunState.DONE


def told(run: Run, doing: Doing) -> tuple[float, str]:
    """Return which share of a run under way is done, and what its worker is at, in words."""
    if run.state is RunState.QUEUED:
        return 0.0, "Queued; it starts as soon as a core is free"
    share = min(1.0, run.step / run.steps) if run.steps else 0.0
    return share, "Stopping" if run.cancel_requested else doing(run.step, run.steps)


def _cancel(run_id: str) -> None:
    """Ask a run to stop, as a callback; one that is gone meanwhile needs nothing more."""
    with contextlib.suppress(HybridLabError):
        cancel(run_id)
