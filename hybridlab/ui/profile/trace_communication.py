"""Communication in a trace: hidden and exposed, operation by operation, and with the traces of other ranks."""

from __future__ import annotations

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.ui import shell
from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import time_columns
from hybridlab.ui.profile.trace_others import named, others, worked_out
from hybridlab.views.trace_communication import (
    collectives_info,
    collectives_plot,
    overlap_plot,
    ranks_info,
    steps_overlap_info,
)


def draw(opened: Opened) -> None:
    """Show the communication of a trace."""
    figures = opened.figures["communication"]
    steps = opened.table("steps")
    if not figures["kernels"] and (steps.empty or not steps["communication_us"].any()):
        st.info(
            "Nothing was communicated between processes in this trace.", icon=":material/link_off:"
        )
    else:
        plot = overlap_plot(steps_overlap_info(steps))
        figure(opened, "overlap", "Computation and communication in each step", plot, steps)
    if opened.has("collectives"):
        table = opened.table("collectives")
        plot = collectives_plot(collectives_info(table))
        figure(opened, "collectives", "Operations between processes", plot)
        st.caption(
            "The time of an operation counts waiting for the slowest process; rates are its message by that time. "
            "Sizes are what the trace tells: traces before PyTorch 2.2 tell none."
        )
        show_table(opened, "collectives-table", table, columns=time_columns(table))
    _ranks(opened)


def _ranks(opened: Opened) -> None:
    world = opened.figures["world_size"]
    if (world or 1) < 2:
        return
    st.markdown("**Ranks of one training beside each other**")
    found = others(opened)
    if not found:
        st.caption(
            f"This is rank {opened.figures['rank']} of {world}. Open the traces of other ranks too, and they can "
            "be put beside it here."
        )
        return
    chosen = st.multiselect(
        "Other ranks of the same training",
        list(found),
        format_func=lambda trace_id: named(found, trace_id),
        key=f"{opened.key}.ranks",
    )
    if not chosen:
        return
    try:
        ranks = worked_out(opened, "ranks", chosen, "Ranks")
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if ranks is None:
        return
    for note in ranks.figures["notes"]:
        st.caption(f":material/info: {shell.escaped(note[:1].upper() + note[1:])}.")
    table = ranks.table("rows")
    plot = overlap_plot(ranks_info(table), "mean step")
    figure(ranks, "ranks", "The mean step of each rank", plot, table)
    st.caption(
        f"Rank {ranks.figures['slowest']} computes longest: the others wait for it in their collectives."
    )
    show_table(ranks, "ranks-table", table, columns=time_columns(table))
