"""Why the devices of a trace waited, in four pictures."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import time_columns
from hybridlab.units import format_seconds
from hybridlab.views.trace_waiting import (
    critical_info,
    critical_plot,
    delays_info,
    delays_plot,
    idle_info,
    idle_plot,
    queue_info,
    queue_plot,
)


def draw(opened: Opened) -> None:
    """Show idle time by cause, the critical path, delays of launches and lengths of queues."""
    if not opened.has("idle"):
        st.info(
            "This trace recorded no device, so nothing waited for a launch.",
            icon=":material/hourglass_disabled:",
        )
        return
    table = opened.table("idle")
    figure(opened, "idle", "Idle time by cause", idle_plot(idle_info(table)), table)
    if opened.has("critical_path"):
        path = opened.table("critical_path")
        figure(opened, "critical", "The critical path", critical_plot(critical_info(path)), path)
        st.caption(
            "Followed back from the end of each step: each kernel to what it waited for. Less time in the largest part "
            "is what makes steps shorter."
        )
        with st.expander("Kernels and copies on the critical path", icon=":material/route:"):
            longest = opened.table("critical_longest")
            show_table(opened, "critical-longest", longest, columns=time_columns(longest))
    if opened.has("launch_delays"):
        _delays(opened)
    else:
        st.info("No kernel has a recorded launch.", icon=":material/hourglass_disabled:")
    if opened.has("queue"):
        queue = opened.table("queue")
        figure(opened, "queue", "Lengths of queues", queue_plot(queue_info(queue)), queue)
        st.caption(
            "A queue that is never empty keeps a device busy; one that is always empty means that the host is late."
        )


def _delays(opened: Opened) -> None:
    figures = opened.figures["launch_delays"]
    table = opened.table("launch_delays")
    info = delays_info(table, figures)
    figure(opened, "delays", "Delays of launches", delays_plot(info), table)
    st.caption(
        f"{figures['kernels']:,} kernels; the longest delay is {format_seconds(figures['max_us'] / 1e6)}. "
        f"{figures['short_kernels']:,} kernels took less time than the call that launched them: there, fewer and "
        "larger kernels pay."
    )
    with st.expander("Kernels that began last after their launch", icon=":material/schedule:"):
        longest = opened.table("longest_delays")
        show_table(opened, "longest-delays", longest, columns=time_columns(longest))
