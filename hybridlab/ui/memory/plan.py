"""The plan: on the network, as a table, to take away, to measure, and to train with."""

from __future__ import annotations

import json

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.errors import HybridLabError
from hybridlab.planning.record import Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.memory.kind import KIND
from hybridlab.ui.memory.measuring import queue
from hybridlab.ui.memory.train import train_with
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import file_name, show_table
from hybridlab.units import format_bytes
from hybridlab.views.diagram import DiagramInfo, diagram_info
from hybridlab.views.plan_diagram import plan_diagram
from hybridlab.views.plan_table import plan_table

ROW_PX = 35
"""Of a table's row, as Streamlit draws it."""


def plan_section(work: Work, plan: Plan, found: TradeOff) -> None:
    """Show what the plan does with each component, and what can be done with the plan."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("The plan", anchor=False, width="stretch")
        if st.button(
            "Apply and measure",
            type="primary",
            icon=":material/play_arrow:",
            key=f"{work.key}.measure",
            help="Runs the step with the plan and as it is, in turn, in a process of its own; takes some seconds.",
        ):
            _measure(work, plan)
        if st.button(
            "Train with this plan",
            icon=":material/model_training:",
            key=f"{work.key}.train",
            disabled=not plan.does_something,
            help="Puts the plan into the training's settings. What is learnt "
            + ("stays the same, bit for bit." if plan.exact else "changes a little."),
        ):
            train_with(work, plan)
        _downloads(work, plan)
    st.caption(" ".join(filter(None, (_told(plan), plan.note))))
    left, right = st.columns([1, 1.15], gap="medium")
    with left:
        _network(work, plan)
    told = any(part.kept_because for part in found.parts)
    with right:
        show_table(
            work.opened,
            "plan",
            plan_table(found, plan),
            columns={
                "plan": st.column_config.TextColumn("plan", width=100),
                "peak_forward_bytes": None,
                "peak_backward_bytes": None,
                "kept_bytes": st.column_config.NumberColumn("keeps (bytes)", format="localized"),
                "forward_ms": st.column_config.NumberColumn("forward (ms)", format="%.3f"),
                "again_ms": st.column_config.NumberColumn("computed again (ms)", format="%.3f"),
                "why": st.column_config.TextColumn("always kept because") if told else None,
            },
            height=min(440, ROW_PX * (len(found.parts) + 1) + 3),
            title="What the plan does with each component, predicted",
        )


def _told(plan: Plan) -> str:
    if not plan.does_something:
        return "At this budget nothing is computed again: the step stays as it is."
    return (
        f"{plan.told}; of each run only what it reads is kept. Predicted peak "
        f"{format_bytes(plan.predicted.peak_bytes)}. On the network they are coloured, and say so."
    )


def _network(work: Work, plan: Plan) -> None:
    architecture = state.parsed(work.text)[0]
    if architecture is None or sum(1 for _ in architecture.walk()) > MOST_BOXES:
        st.caption("The network is too large for a picture here; the table has all of it.")
        return
    known = predictions.components()
    kinds = {entry["name"]: str(entry["kind"]) for entry in known}
    whole = complete(architecture, work.task["input_node"], work.task["head_node"], kinds.get)
    own = {node.id for node in architecture.nodes}
    supplied = [node.id for node in whole.nodes if node.id not in own]
    laid_out: DiagramInfo = diagram_info(whole, catalogue=known, supplied=supplied)
    diagram(f"{work.key}.diagram", plan_diagram(laid_out, architecture, plan), height_px=490)


def _downloads(work: Work, plan: Plan) -> None:
    """Offer the plan as `hybridlab plan --output` writes it, and in settings for `hybridlab train --training`."""
    settings = {**work.settings, "plan": plan.as_dict()}
    for label, content, ending, said in (
        ("Plan (JSON)", plan.as_dict(), "plan.json", "As `hybridlab plan --output` writes it."),
        (
            "Settings (YAML)",
            settings,
            "training.yaml",
            "The training's settings with the plan: `hybridlab train DESIGN --training FILE`.",
        ),
    ):
        st.download_button(
            label,
            json.dumps(content, indent=2) + "\n",  # JSON is YAML too
            file_name(work.opened, "plan", ending),
            "application/json" if ending.endswith("json") else "application/yaml",
            icon=":material/download:",
            on_click="ignore",
            key=f"{work.key}.download.{ending}",
            help=said,
        )


def _measure(work: Work, plan: Plan) -> None:
    """Queue the measurement and show it; what is wrong is told instead."""
    words = f"plan of {format_bytes(plan.predicted.peak_bytes)}"
    try:
        run = queue(work, KIND, words, plan=plan.as_dict())
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    if run is not None:
        shell.go(shell.MEMORY, run=run.id)
