"""The views of the designer beside the canvas: diagram, YAML and costs."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture.graph import expanded_count
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.design import actions
from hybridlab.ui.design.look import Look
from hybridlab.ui.design.text import yaml_view
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.held import held_key
from hybridlab.views.costs import costs_info, costs_plot
from hybridlab.views.diagram import diagram_info

_KEY, _VIEW = "design.diagram", "design.view"


def present_view() -> str:
    """Return how the user sees the design."""
    return str(st.session_state.get(held_key(_VIEW)) or _first_view())


def _first_view() -> str:
    return state.keep("design_first_view", "Canvas")


def chosen_view(known: Look) -> None:
    """Let the user choose how to see the design, and say whether it is right; the session keeps the first view."""
    st.segmented_control(
        "View",
        ["Canvas", "Diagram", "YAML", "Costs", "Compare"],
        default=_first_view(),
        required=True,
        key=held_key(_VIEW),
        label_visibility="collapsed",
        persist_state="session",
        width="content",
    )
    _badge(known)


def picture(design: state.Design, known: Look, view: str) -> None:
    """Show the architecture as a diagram, as text, or as costs by component."""
    if view == "YAML":
        yaml_view(design)
    elif view == "Costs":
        costs(known)
    else:
        _diagram(design, known)


def _badge(known: Look) -> None:
    if known.empty:
        st.badge("empty: add the first node", icon=":material/add:", color="gray")
    elif known.errors:
        count = len(known.errors)
        st.badge(f"{count} error{'s' if count > 1 else ''}", icon=":material/error:", color="red")
    elif known.problems:
        st.badge(f"{len(known.problems)} to look at", icon=":material/warning:", color="orange")
    elif known.architecture is not None and known.pending != "check":
        st.badge("valid", icon=":material/check:", color="green")


def _diagram(design: state.Design, known: Look) -> None:
    architecture = known.architecture
    if architecture is None:
        st.info("There is nothing to draw yet.", icon=":material/schema:")
        return
    boxes = sum(1 for _ in architecture.walk())
    if boxes > MOST_BOXES:
        total = expanded_count(architecture.nodes)
        st.info(
            f"{boxes:,} nodes ({total:,} with repeats) are too many to draw; at most {MOST_BOXES}."
        )
        return
    info = diagram_info(
        known.completed or architecture,
        known.edges,
        known.problems,
        predictions.components(),
        known.supplied,
    )
    diagram(_KEY, info, actions.selected(), actions.select, carries=design.text)
    st.caption(
        "Click a box to select it. A cross in a circle adds the residual. "
        "Beside the lines stand shapes: B is the batch, L the length."
    )


def costs(known: Look) -> None:
    """Show the predicted costs by component, with a table to download."""
    if known.prediction is None:
        st.info(
            "Costs are being worked out."
            if known.pending
            else "Costs appear once the design is valid.",
            icon=":material/info:",
        )
        return
    info = costs_info(known.prediction["components"], source="predicted")
    st.plotly_chart(costs_plot(info), key="design.costs")
    table = info.table()
    st.dataframe(table, hide_index=True, height=240)
    st.download_button(
        "Costs (CSV)",
        table.to_csv(index=False),
        "costs.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def notices() -> None:
    """Tell what the last change could not do."""
    shell.problems(actions.notice())
