"""A run's gradient flow: its heat map, what stands out in it, and what may help, as a new run's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run
from hybridlab.training.flow import QUANTITIES, Flow, flow
from hybridlab.training.flow_finding import FlowFinding
from hybridlab.training.flow_findings import findings
from hybridlab.training.grown import trained_text
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.train.remedy import set_up
from hybridlab.ui.train.whole import whole
from hybridlab.views.gradient_flow import heat_info, heat_plot, ratio_info, ratio_plot

_EVERY_S = 4.0
_SIGNS = {
    "warning": (":material/priority_high:", "orange", "weighty"),
    "hint": (":material/lightbulb:", "blue", "hint"),
}


def gradient_flow(run: Run, task: Mapping[str, Any] | None) -> None:
    """Offer the gradient flow of a run; what nobody opens is neither read nor drawn."""
    if state.parsed(trained_text(run.spec))[0] is None or task is None:
        return
    place = st.expander(
        "Gradient flow",
        icon=":material/waterfall_chart:",
        key=f"train.flow.{run.id}",
        on_change="rerun",
    )
    if not place.open:
        return
    with place:
        every = _EVERY_S if run.state.active else None
        st.fragment(_draw, run_every=every)(run, task)


def _draw(run: Run, task: Mapping[str, Any]) -> None:
    """Draw what was measured so far."""
    try:
        reader(run.id).look()
    except HybridLabError:  # the rest of the page says why
        return
    measured = _flow(run, task)
    if not measured.curves["grad_norm"]:
        st.caption(_silence(run))
        return
    _findings(run, task, measured)
    opened = Opened(f"train.flow.{run.id}", run.name, "profile", run_folder(run.id), {})
    there = [name for name in QUANTITIES if measured.curves.get(name)]
    quantity = st.segmented_control(
        "Quantity",
        there,
        default="grad_norm",
        required=True,
        format_func=lambda name: QUANTITIES[name].title,
        key=f"train.flow.quantity.{run.id}",
    )
    chosen = str(quantity) if quantity in there else "grad_norm"
    heat = heat_info(measured, chosen)
    title = QUANTITIES[chosen].title
    figure(opened, chosen, f"{title} by component and step", heat_plot(heat), heat.table())
    st.caption(f"{QUANTITIES[chosen].help} Components stand in the order in which they run.")
    ratio = ratio_info(measured)
    words = "Largest over smallest gradient of single components, by step"
    figure(opened, "ratio", words, ratio_plot(ratio), ratio.table())


def _flow(run: Run, task: Mapping[str, Any]) -> Flow:
    """Return what the store holds of the run's components."""
    architecture = state.parsed(trained_text(run.spec))[0]
    assert architecture is not None
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    completed = whole(run, architecture, task)
    source = reader(run.id)
    return flow(completed, kinds.get, {n: source.curve(n) for n in source.names() if "/" in n})


def _silence(run: Run) -> str:
    """Say why there is nothing to show."""
    if run.state.active:
        return "The first values come some steps after the training has begun."
    return "This training did not measure its components: component_metrics_every was 0, or it is of an older version."


def _findings(run: Run, task: Mapping[str, Any], measured: Flow) -> None:
    architecture = state.parsed(trained_text(run.spec))[0]
    assert architecture is not None
    found = findings(measured, architecture)
    if not found:
        st.info(
            "Nothing stands out: gradients are of like size everywhere, and no unit, gate or router has given up."
            if len(measured.steps("grad_norm")) > 2
            else "Too early to tell: what stands out must do so at three measurements in a row.",
            icon=":material/check_circle:",
        )
    for place, finding in enumerate(found):
        _one(run, task, place, finding)


def _one(run: Run, task: Mapping[str, Any], place: int, finding: FlowFinding) -> None:
    """Show a finding with its numbers, and its remedies as buttons."""
    icon, colour, words = _SIGNS[finding.severity]
    with st.container(border=True, gap="small"):
        st.badge(f"{finding.kind}, {words}", icon=icon, color=colour)  # type: ignore[arg-type]
        st.markdown(f"**{shell.escaped(finding.sentence)}**")
        st.caption(shell.escaped(_evidence(finding)))
        with st.container(horizontal=True):
            for remedy in finding.remedies:
                source = f" Source: {remedy.source}" if remedy.source else ""
                if st.button(
                    remedy.title,
                    key=f"train.flow.{run.id}.{place}.{remedy.name}",
                    icon=":material/healing:",
                    help=f"{remedy.reason}{source} Opens the settings of a new run with it.",
                ):
                    set_up(run, task, remedy)


def _evidence(finding: FlowFinding) -> str:
    """Write a finding's numbers."""
    told = {**finding.evidence}
    first, last, samples = (told.pop(key, 0) for key in ("from_step", "to_step", "samples"))
    said = [
        f"{name.replace('_', ' ')}: {value:,.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')}: {value}"
        for name, value in told.items()
    ]
    return ", ".join([*said, f"steps {first:,} to {last:,}, measured {samples} times"])
