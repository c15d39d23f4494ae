"""PyTorch's own memory budget for compiled steps: measured by a run of its own, shown beside the planner's plans."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.compared import SHARES, Compared, doing
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell
from hybridlab.ui.memory.kind import COMPILE, COMPILED_FILE
from hybridlab.ui.memory.measuring import ended_well, newest, queue
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import show_table
from hybridlab.ui.profile.opened import figures

_BUDGETS = "The step as it is, and compiled under PyTorch's budgets, measured"
_PLANS = "Plans of the compiled step, predicted and measured"


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
            f"is known only once it is compiled, half a minute to minutes for each of {len(SHARES)} budgets; it runs "
            "behind the page. Then each component is compiled under every budget and measured, alone and together "
            "with those next to it, and the best plans are found: what is compiled together and under which budget, "
            "what is computed again, or the step compiled as a whole where that is better. What draws random numbers "
            "is not compiled so: its gradients would be wrong without a word "
            "([pytorch#190758](https://github.com/pytorch/pytorch/issues/190758))."
        )
        with shell.told():
            run = newest(work, COMPILE)
            going = run is not None and run.state.active
            if st.button(
                "Measure PyTorch's budget",
                icon=":material/timer:",
                key=f"{work.key}.compiled.start",
                disabled=going,
            ):
                queue(work, COMPILE, "PyTorch's budget")
                run = newest(work, COMPILE)
            help = "Stops the compiler too; nothing is kept."
            budgets = len((run.spec.get("shares") if run is not None else None) or SHARES)
            words = partial(doing, budgets=budgets)
            if run is not None and ended_well(run, f"{work.key}.compiled", words, help):
                _table(work, run, _read(run))


def compiled_points(work: Work) -> Compared | None:
    """Return what was found last for this very step; None where nothing was, or its file is damaged.

    Raises:
        StoreError: the store cannot be read.
    """
    run = newest(work, COMPILE, [RunState.DONE])
    if run is None:
        return None
    try:
        return _read(run)
    except HybridLabError:
        return None


def _read(run: Run) -> Compared:
    content = dict(figures(run_folder(run.id) / COMPILED_FILE))
    content.pop("beside", None)
    return Compared.read(content)


def _table(work: Work, run: Run, found: Compared) -> None:
    st.markdown(f"**{_BUDGETS}**")
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
        title=_BUDGETS,
    )
    if any(one.measured for one in found.planned):
        st.markdown(f"**{_PLANS}**")
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
            title=_PLANS,
        )
    for why in dict.fromkeys([found.not_planned, *(one.why for one in found.planned)]):
        if why:
            st.caption(shell.escaped(f"Plans of the compiled step: {why}"))
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
    """Return a row for each plan of the compiled step that was measured: what was predicted of it, and measured."""
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
