"""The operators of a trace: the longest as bars, all as a table."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import measure, time_columns
from hybridlab.views.trace_tables import operators_info, operators_plot


def draw(opened: Opened) -> None:
    """Show the operators of a trace."""
    table = opened.table("operators")
    if table.empty:
        st.info("This trace recorded no operators.", icon=":material/functions:")
        return
    chosen = measure(opened, "operators")
    info = operators_info(table, chosen)
    if info.rows:
        figure(opened, "operators", "The longest operators", operators_plot(info), table)
    else:
        st.info(f"No operator took time on the {chosen}.", icon=":material/functions:")
    st.caption(
        "Own time on the host is without the operators and the calls of the runtime that it made; own time on the "
        "device is of the kernels and copies that it launched itself. All steps together."
    )
    show_table(
        opened,
        "operators-table",
        table,
        columns=time_columns(table),
        title="Operators with calls and times",
    )
