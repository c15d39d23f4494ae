"""Two traces beside each other: what got slower from this one to another, and why."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.ui import shell
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import time_columns
from hybridlab.ui.profile.trace_others import named, nothing_else, others, worked_out
from hybridlab.units import format_seconds
from hybridlab.views.trace_comparison import changes_info, changes_plot
from hybridlab.views.trace_steps import TITLES

_TABLES = {"components": "Components", "operators": "Operators", "kernels": "Kernels"}


def draw(opened: Opened) -> None:
    """Let a person choose a second trace, and show what changed from this one to it."""
    found = others(opened)
    if not found:
        nothing_else()
        return
    other = st.selectbox(
        "The trace after",
        list(found),
        index=None,
        format_func=lambda trace_id: named(found, trace_id),
        placeholder="Choose the second trace",
        key=f"{opened.key}.compare",
        help="The one that is open is the trace before. Both are matched by component, operator and kernel.",
    )
    if other is None:
        return
    try:
        compared = worked_out(
            opened, "compare", [other], f"{opened.name} against {found[other].name}"
        )
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if compared is not None:
        _changes(compared)


def _changes(compared: Opened) -> None:
    figures = compared.figures
    before, after = figures["step_us"]
    shell.facts(
        {
            "A step before": format_seconds(before / 1e6),
            "A step after": format_seconds(after / 1e6),
            "Change": f"{100 * (after / before - 1):+.1f} %" if before else "unknown",
            "Compared": f"{figures['measure']} time, a step",
        }
    )
    for note in figures["notes"]:
        st.caption(f":material/info: {shell.escaped(note[:1].upper() + note[1:])}.")
    _kinds(compared)
    there = [name for name in _TABLES if compared.has(name)]
    if not there:
        st.info(
            "There is nothing in both traces that could be matched.", icon=":material/difference:"
        )
        return
    name = st.segmented_control(
        "Matched by",
        there,
        default=there[0],
        format_func=lambda key: _TABLES[key],
        required=True,
        key=f"{compared.key}.table",
    )
    table = compared.table(name)
    plot = changes_plot(changes_info(table, name))
    figure(compared, f"changes-{name}", "The largest changes", plot, table)
    st.caption(
        "A change is split into what more or fewer calls account for, at the time a call took before, and what longer "
        "or shorter calls account for."
    )
    show_table(compared, f"{name}-table", table, columns=time_columns(table))


def _kinds(compared: Opened) -> None:
    kinds = compared.figures["categories"]
    table = pd.DataFrame(
        [
            {
                "kind of work": TITLES[kind],
                "before_us": before,
                "after_us": after,
                "change_us": after - before,
            }
            for kind, (before, after) in kinds.items()
            if before or after
        ]
    )
    if len(table):
        show_table(compared, "kinds", table, columns=time_columns(table))
