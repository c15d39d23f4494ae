"""The network that trains, with what is measured of its parts while they learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.record import Run
from hybridlab.training import flow
from hybridlab.training.grown import trained_text
from hybridlab.ui import predictions, state
from hybridlab.ui.canvas.measured import values
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.live.reader import reader
from hybridlab.ui.train.whole import whole
from hybridlab.views.diagram import DiagramInfo, diagram_info
from hybridlab.views.measured_diagram import QUANTITIES, measured_info

_EVERY_S = 2.0


def network(run: Run, task: Mapping[str, Any] | None) -> None:
    """Offer the network's diagram with live values; what nobody opens is neither read nor drawn."""
    architecture = state.parsed(trained_text(run.spec))[0]
    if architecture is None or sum(1 for _ in architecture.walk()) > MOST_BOXES:
        return
    place = st.expander(
        "The network, as it learns",
        icon=":material/schema:",
        key=f"train.network.{run.id}",
        on_change="rerun",
    )
    if not place.open:
        return
    with place:
        quantity = st.segmented_control(
            "Colour and label the parts by",
            list(QUANTITIES),
            default="grad_norm",
            required=True,
            format_func=lambda name: QUANTITIES[name],
            key="train.quantity",
        )
        every = _EVERY_S if run.state.active else None
        st.fragment(_draw, run_every=every)(run, task, str(quantity))


def _draw(run: Run, task: Mapping[str, Any] | None, quantity: str) -> None:
    """Draw the diagram with the newest values."""
    source = reader(run.id)
    try:
        source.look()
    except HybridLabError:  # the rest of the page says why
        return
    step, found = values(source, flow.QUANTITIES)
    architecture = state.parsed(trained_text(run.spec))[0]
    info = _laid_out(run, task)
    if architecture is None or info is None:
        return
    if quantity not in found:
        st.caption(_silence(run, bool(found), quantity))
        return
    name = QUANTITIES[quantity]
    st.caption(f"{name}, *measured* at step {step:,}. {_MEANING[quantity]}")
    shown = measured_info(info, architecture, quantity, found[quantity])
    diagram(f"train.network.diagram.{run.id}", shown, height_px=520)


_MEANING = {
    name: f"{quantity.help} A stronger colour is a larger one."
    for name, quantity in flow.QUANTITIES.items()
} | {
    "expert_load": "The share of tokens that each expert gets; a stronger colour is more uneven.",
}


_OF_SOME = ("router_entropy", "attention_entropy", "saturated_share")


def _silence(run: Run, others: bool, quantity: str) -> str:
    """Say why there is nothing to show."""
    if quantity == "expert_load" and others:
        return "No component of this design has experts; a mixture of experts does."
    if quantity in _OF_SOME and others:
        return f"No component of this design tells it. {flow.QUANTITIES[quantity].help}"
    if run.state.active:
        return "The first values come some steps after the training has begun."
    return "This training did not record these: component_metrics_every was 0, or it is of an older version."


def _laid_out(run: Run, task: Mapping[str, Any] | None) -> DiagramInfo | None:
    architecture = state.parsed(trained_text(run.spec))[0]
    if architecture is None:
        return None
    known = predictions.components()
    if task is None:
        return diagram_info(architecture, catalogue=known)
    completed = whole(run, architecture, task)
    own = {node.id for node in architecture.nodes}
    supplied = [node.id for node in completed.nodes if node.id not in own]
    return diagram_info(completed, catalogue=known, supplied=supplied)
