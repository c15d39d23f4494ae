"""The kernels of a trace: the longest as bars, all as a table, and what the hardware counted."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import time_columns
from hybridlab.views.trace_tables import kernels_info, kernels_plot


def draw(opened: Opened) -> None:
    """Show the kernels of a trace."""
    table = opened.table("kernels")
    if table.empty:
        st.info("This trace recorded no kernels on a device.", icon=":material/memory_alt:")
    else:
        figure(opened, "kernels", "The longest kernels", kernels_plot(kernels_info(table)), table)
        if table["occupancy"].isna().all():
            st.caption("This trace does not tell the occupancy of kernels.")
        show_table(
            opened,
            "kernels-table",
            table,
            columns=time_columns(table),
            title="Kernels with calls, times and occupancy",
        )
    if opened.has("counters"):
        st.markdown("**What the hardware counted (CUPTI)**")
        st.caption(
            "One range a kernel. The profiler calls ranges of which it does not know the kernel `__missing__`; "
            "recording counters slows a program down, so times of such a trace say little."
        )
        show_table(opened, "counters", opened.table("counters"), title="Hardware counters")
