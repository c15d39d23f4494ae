"""The operators view: what is called how often, what it costs, and which of it is done for nothing."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.views.profile_operators import BY, By, kernels_table, operators_table

_SPARED = {
    "fusable": (
        "Fusion",
        "Element-wise operators in a row: what one kernel for the whole row need not move.",
    ),
    "repeated": ("Repeated", "Operators that ran again on unchanged inputs with equal arguments."),
    "dead": ("Unread", "Operators whose results nothing reads."),
}


def operators(opened: Opened) -> None:
    """Show operators by name, component and phase, and below what could be spared."""
    table = opened.table("operators")
    if table.empty:
        st.info("This profile has no table of operators.", icon=":material/info:")
        return
    st.fragment(_operators)(opened)
    st.fragment(_kernels)(opened)
    st.markdown("**What could be spared** (from the measured accesses)")
    tabs = st.tabs([title for title, _ in _SPARED.values()])
    for tab, (name, (title, said)) in zip(tabs, _SPARED.items(), strict=True):
        with tab:
            spared = opened.table(name)
            st.caption(said if not spared.empty else f"{said} There are none in this step.")
            if not spared.empty:
                columns = [column for column in spared.columns if spared[column].dtype.kind in "iu"]
                show_table(
                    opened,
                    name,
                    spared,
                    title=title,
                    columns={
                        column: st.column_config.NumberColumn(
                            column.replace("_", " "), format="localized"
                        )
                        for column in columns
                    },
                )


def _operators(opened: Opened) -> None:
    kinds: list[By] = list(BY)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "A row for each",
            kinds,
            default="op",
            required=True,
            format_func=lambda name: BY[name],
            key=f"{opened.key}.operators.by",
        )
        words = st.text_input(
            "Find by name",
            key=f"{opened.key}.operators.find",
            placeholder="Find an operator or component",
            icon=":material/search:",
            max_chars=80,
            width=320,
        )
    shown = operators_table(opened.table("operators"), by, words or "")
    show_table(
        opened,
        "operators",
        shown,
        title="Operators of a step",
        height=460,
        columns={
            "operator": st.column_config.TextColumn(width="large"),
            "ms, measured": st.column_config.NumberColumn(format="%.3f"),
            "ms on the device, measured": st.column_config.NumberColumn(format="%.3f"),
            "µs each": st.column_config.NumberColumn(format="%.1f"),
            "share (%)": st.column_config.NumberColumn(format="%.1f"),
            "FLOPs a byte": st.column_config.NumberColumn(format="%.3g"),
            **{
                name: st.column_config.NumberColumn(format="compact")
                for name in ("FLOPs", "read (bytes)", "written (bytes)", "kept (bytes)")
            },
        },
    )
    st.caption("Click a heading to sort. Times are medians over the profiled steps.")


def _kernels(opened: Opened) -> None:
    """Show what operators started on a device, and how much of its time that is."""
    held = opened.figures.get("kernels_joined")
    if held is None:
        return
    st.markdown("**Kernels on the device**, by the operator that started them")
    words = st.text_input(
        "Find a kernel",
        key=f"{opened.key}.kernels.find",
        placeholder="Find a kernel, an operator or a component",
        icon=":material/search:",
        max_chars=80,
        width=360,
    )
    show_table(
        opened,
        "kernels",
        kernels_table(opened.table("kernels"), words or ""),
        title="Kernels of a step",
        height=360,
        columns={
            "kernel": st.column_config.TextColumn(width="large"),
            "ms on the device, measured": st.column_config.NumberColumn(format="%.4f"),
            "share (%)": st.column_config.NumberColumn(format="%.1f"),
        },
    )
    st.caption(
        f"{100 * float(held):.1f} % of the device's time belongs to an operator of the step; the rest was started by "
        "what stands in no operator, and is in the profiler's trace alone. Times are medians over the profiled steps."
    )
