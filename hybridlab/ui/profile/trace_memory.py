"""Memory of a trace: a curve a device, or bytes by category."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.trace_memory import (
    fragmentation_words,
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
    rows = {row["device"]: row for row in opened.figures["memory"]}
    for device in sorted(rows, key=lambda name: -rows[name]["peak_bytes"]):
        plot = memory_plot(memory_info(table, device, bool(rows[device]["absolute"])))
        mine = table[table["device"] == device]
        figure(opened, f"memory-{device}", f"Reserved and allocated memory of {device}", plot, mine)
        if (said := fragmentation_words(rows[device])) is not None:
            st.caption(said)
    if set(rows) == {"cpu"}:
        st.caption(
            "Fragmentation: *not measured*: no accelerator. On a CPU, torch takes each tensor from the system and "
            "keeps no memory back."
        )
    st.caption("The curves keep the highest and the lowest point of every piece of time.")
