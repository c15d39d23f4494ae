"""Memory of a trace: a curve a device, or bytes by category."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.trace_memory import (
    memory_categories_info,
    memory_categories_plot,
    memory_info,
    memory_plot,
)


def draw(opened: Opened) -> None:
    """Show the memory of a trace over time."""
    if opened.has("memory_categories"):
        table = opened.table("memory_categories")
        plot = memory_categories_plot(memory_categories_info(table))
        figure(opened, "memory-categories", "Memory by category", plot, table)
        return
    if not opened.has("memory"):
        st.info(
            "This trace recorded no memory: it was made without `profile_memory=True`.",
            icon=":material/storage:",
        )
        return
    table = opened.table("memory")
    absolute = {row["device"]: bool(row["absolute"]) for row in opened.figures["memory"]}
    peaks = {row["device"]: row["peak_bytes"] for row in opened.figures["memory"]}
    for device in sorted(peaks, key=lambda name: -peaks[name]):
        plot = memory_plot(memory_info(table, device, absolute[device]))
        mine = table[table["device"] == device]
        figure(opened, f"memory-{device}", f"Memory of {device}", plot, mine)
    st.caption("The curves keep the highest and the lowest point of every piece of time.")
