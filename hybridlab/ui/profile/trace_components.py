"""The components of a trace: bars by path or class, the map of the tree, and the table."""

from __future__ import annotations

import streamlit as st

from hybridlab.ui.profile.figure import figure, show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.trace_measure import measure, time_columns
from hybridlab.views.trace_components import (
    Grouping,
    components_info,
    components_plot,
    readable_depth,
    tree_info,
    tree_plot,
)

_BY: dict[Grouping, str] = {"path": "Place in the model", "class": "Class of module"}


def draw(opened: Opened) -> None:
    """Show where the time of a trace went by component."""
    table = opened.table("components")
    if table.empty or not (table["kind"] != "phase").any():
        st.info(
            "This trace names no components: it has neither calls of modules (record with `with_stack=True`) nor "
            "ranges (`torch.profiler.record_function`). All its time is of operators that nobody owns.",
            icon=":material/account_tree:",
        )
        if table.empty:
            return
    named = table.loc[table["kind"] != "phase", "path"]
    deepest = max((path.count("/") + 1 for path in named), default=1)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = measure(opened, "components")
        by: Grouping = st.segmented_control(
            "Together by",
            list(_BY),
            default="path",
            format_func=lambda name: _BY[name],
            required=True,
            key=f"{opened.key}.components.by",
        )
        depth = deepest
        if by == "path" and deepest > 1:
            depth = st.slider(
                "Levels",
                1,
                deepest,
                readable_depth(table, chosen),
                key=f"{opened.key}.components.depth.{chosen}",
                width=220,
                help="What lies deeper counts for what encloses it.",
            )
    info = components_info(table, chosen, by, depth if depth < deepest else None)
    figure(opened, "components", "Time by component", components_plot(info), table)
    st.caption(_said(opened, chosen))
    if (table["kind"] != "phase").any():
        figure(opened, "tree", "The tree of components", tree_plot(tree_info(table, chosen)))
    show_table(
        opened,
        "components-table",
        table,
        columns=time_columns(table),
        title="Components with their own time and that of all below them",
    )


def _said(opened: Opened, chosen: str) -> str:
    figures = opened.figures
    said = []
    phases = figures["attributed_with_phases"]
    if phases is not None:
        said.append(
            f"With optimiser, communication and data loading, {100 * phases:.1f} % of the time is accounted for."
        )
    without = figures["without_launch"]
    if chosen == "device" and without:
        said.append(
            f"{100 * without:.1f} % of the device time was launched before the recording began: nothing can tell "
            "whose it is."
        )
    said.append(
        "Backward belongs to the component whose forward operator made it; the rest is grey, never shared out."
    )
    return " ".join(said)
