"""PyTorch's own memory budget for compiled steps: measured by a run of its own, shown beside the planner's plans."""

from __future__ import annotations

import contextlib

import pandas as pd
import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.compared import SHARES, Compared
from hybridlab.runs.home import run_folder
from hybridlab.runs.launcher import cancel, submit
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui import predictions, shell
from hybridlab.ui.again import page_again
from hybridlab.ui.live.reader import reader
from hybridlab.ui.memory.kind import COMPILE, COMPILED_FILE
from hybridlab.ui.memory.work import Work, without_plan
from hybridlab.ui.profile.figure import show_table
from hybridlab.ui.profile.opened import figures

_EVERY_S = 0.5
_MOST = 40


def compiled_section(work: Work) -> None:
    """Let the user measure PyTorch's budget, and show what was found last for this very step."""
    opened = work.run is not None and work.run.kind == COMPILE
    with st.expander(
        "PyTorch's own budget, compiled",
        icon=":material/bolt:",
        key=f"{work.key}.compiled",
        expanded=opened,
    ):
        st.caption(
            "PyTorch can compile the whole step and compute parts of it again by a budget of its own. What that takes "
            f"is known only once it is compiled, which takes minutes for each of {len(SHARES)} budgets; it runs behind "
            "the page. Then each component is compiled alone under every budget and measured, and the best plans are "
            "found that choose a budget within each. What draws random numbers is not compiled so: its gradients would "
            "be wrong without a word ([pytorch#190758](https://github.com/pytorch/pytorch/issues/190758))."
        )
        with shell.told():
            run = newest(work)
            going = run is not None and run.state.active
            if st.button(
                "Measure PyTorch's budget",
                icon=":material/timer:",
                key=f"{work.key}.compiled.start",
                disabled=going,
            ):
                _submit(work)
                run = newest(work)
            if run is not None:
                _shown(work, run)


def compiled_points(work: Work) -> Compared | None:
    """Return what was found last for this very step; None where nothing was, or its file is damaged.

    Raises:
        StoreError: the store cannot be read.
    """
    run = newest(work, done=True)
    return None if run is None else _read(run)


def newest(work: Work, *, done: bool = False) -> Run | None:
    """Return the newest run that measured this step, or is about to; None where there is none.

    Raises:
        StoreError: the store cannot be read.
    """
    states = [RunState.DONE] if done else None

    def same(run: Run) -> bool:
        asked = (run.spec.get("asked"), without_plan(run.spec.get("training") or {}))
        return run.spec.get("architecture") == work.text and dict(work.settings) in asked

    return next(filter(same, open_store().list(kind=COMPILE, states=states, limit=_MOST)), None)


def _submit(work: Work) -> None:
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(work.text, work.settings)
    if answer.problems:
        shell.problems(answer.problems)
        return
    made = answer.value
    spec = {
        "architecture": work.text,
        "training": made["training"],
        "preset": work.preset,
        "asked": dict(work.settings),
    }
    title = f"{made['name']}, PyTorch's budget"
    submit(COMPILE, title, spec, threads=1, device=made["training"]["device"])


def _shown(work: Work, run: Run) -> None:
    if run.state.active:
        st.fragment(_progress, run_every=_EVERY_S)(run.id, run.state)
        st.button(
            "Cancel",
            icon=":material/stop:",
            key=f"{work.key}.compiled.cancel",
            on_click=lambda: _cancel(run.id),
            disabled=run.cancel_requested,
            help="Stops the compiler too; nothing is kept.",
        )
    elif run.state is not RunState.DONE:
        said = run.error.partition("\n")[0] if run.error else f"It was {run.state.lower()}."
        st.error(shell.escaped(said), icon=":material/error:")
    elif (found := _read(run)) is not None:
        _table(work, run, found)


def _cancel(run_id: str) -> None:
    """Ask a run to stop, as a callback; one that is gone meanwhile needs nothing more."""
    with contextlib.suppress(HybridLabError):
        cancel(run_id)


def _progress(run_id: str, drawn: RunState) -> None:
    """Say what the worker is at; the page is drawn again when that has changed."""
    with shell.told():
        run = reader(run_id).look()
        if run.state is not drawn:
            page_again()
        if run.state is RunState.QUEUED:
            st.progress(0.0, text="Queued; it starts as soon as a core is free …")
            return
        doing = "Timing the step as it is, not compiled"
        if run.step:
            doing = f"Compiling and timing, {run.step} of {max(1, run.steps - 1)}"
        share = min(1.0, run.step / run.steps) if run.steps else 0.0
        st.progress(share, text=f"{doing} …")


def _read(run: Run) -> Compared | None:
    try:
        content = dict(figures(run_folder(run.id) / COMPILED_FILE))
        content.pop("beside", None)
        return Compared.read(content)
    except HybridLabError:
        return None


def _table(work: Work, run: Run, found: Compared) -> None:
    show_table(
        work.opened,
        f"compiled {run.id}",
        compiled_table(found),
        columns={
            "peak_bytes": st.column_config.NumberColumn("peak (bytes)", format="localized"),
            "step_ms": st.column_config.NumberColumn("step (ms)", format="%.1f"),
            "compile_s": st.column_config.NumberColumn("compiling (s)", format="%.0f"),
            "difference": st.column_config.NumberColumn("gradients differ by", format="%.1e"),
        },
        title="The step as it is, and compiled under PyTorch's budgets, measured",
    )
    if any(one.measured for one in found.planned):
        show_table(
            work.opened,
            f"planned {run.id}",
            planned_table(found),
            columns={
                "predicted_bytes": st.column_config.NumberColumn(
                    "peak, predicted (bytes)", format="localized"
                ),
                "peak_bytes": st.column_config.NumberColumn(
                    "peak, measured (bytes)", format="localized"
                ),
                "predicted_ms": st.column_config.NumberColumn(
                    "step, predicted (ms)", format="%.1f"
                ),
                "step_ms": st.column_config.NumberColumn("step, measured (ms)", format="%.1f"),
                "difference": st.column_config.NumberColumn("gradients differ by", format="%.1e"),
            },
            title="Plans with budgets within components, predicted from components alone, and measured",
        )
    for why in dict.fromkeys([found.not_planned, *(one.why for one in found.planned)]):
        if why:
            st.caption(shell.escaped(f"Plans with budgets within: {why}"))
    for why in dict.fromkeys(one.why for one in found.points if one.why):
        budgets = ", ".join(f"{one.share:g}" for one in found.points if one.why == why)
        st.caption(shell.escaped(f"Budget {budgets}: {why}"))


def compiled_table(found: Compared) -> pd.DataFrame:
    """Return a row for the plain step and for each budget: its peak, time, and what compiling took."""
    rows = [("as it is", found.plain, 0, 0.0, 0.0)]
    rows += [
        (f"{one.share:g}", one.measured, one.graphs, one.compile_s, one.difference)
        for one in found.found
        if one.measured is not None
    ]
    return pd.DataFrame(
        {
            "budget": [name for name, *_ in rows],
            "peak_bytes": [row[1].peak_bytes for row in rows],
            "step_ms": [row[1].step_ms for row in rows],
            "graphs": [row[2] for row in rows],
            "compile_s": [row[3] for row in rows],
            "difference": [row[4] for row in rows],
        }
    )


def planned_table(found: Compared) -> pd.DataFrame:
    """Return a row for each plan with budgets within that was measured: what was predicted of it, and measured."""
    some = [(one, one.measured) for one in found.planned if one.measured is not None]
    return pd.DataFrame(
        {
            "plan": [one.told for one, _ in some],
            "predicted_bytes": [one.predicted.peak_bytes for one, _ in some],
            "peak_bytes": [measured.peak_bytes for _, measured in some],
            "predicted_ms": [one.predicted.step_ms for one, _ in some],
            "step_ms": [measured.step_ms for _, measured in some],
            "difference": [one.difference for one, _ in some],
        }
    )
