"""The whole step at a glance: its time and memory measured beside predicted, and each component's share of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.runs.energy_words import energy_words
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.units import format_bytes, format_flops, format_seconds
from hybridlab.views.diagram import DiagramInfo, diagram_info
from hybridlab.views.profile_components import (
    QUANTITIES,
    Part,
    PartsInfo,
    by_node,
    painted_by,
    parts_info,
    parts_plot,
)

_LEAST_PX, _MOST_PX = 320, 820
"""A network is shown whole where it fits; a larger one is moved about in its frame."""
CHOSEN = "profile.component"
"""Under this name the session keeps which component is looked at."""


def overview(opened: Opened) -> None:
    """Show the figures of the step, the network painted by what is asked for, and the components beside each other."""
    info = parts_info(opened.figures)
    _headline(opened, info)
    left, right = st.columns([1, 1.15], gap="medium")
    with left:
        _network(opened, info)
    with right:
        figure(opened, "parts", "Time of a step by component", parts_plot(info), info.table())
        _chosen(info)
    _table(opened, info)
    st.caption(f":material/bolt: {shell.escaped(_energy(opened))}")
    for note in opened.figures.get("notes", ()):
        st.caption(f":material/info: {shell.escaped(str(note))}")


def _headline(opened: Opened, info: PartsInfo) -> None:
    """Show time, memory, speed and what share of the time has a name."""
    step, peak = opened.figures["step_ms"], opened.figures["peak_bytes"]
    low, high = step["interval"]
    flops = sum(part.flops for part in info.parts)
    columns = st.columns(4)
    columns[0].metric(
        "Step, measured",
        format_seconds(step["measured"] / 1e3),
        _off(step["measured"], step["predicted"], lambda ms: format_seconds(ms / 1e3)),
        delta_color="off",
        delta_arrow="off",
        border=True,
        help=f"Median of {step['steps']} steps without the profiler; with {100 * step['confidence']:.0f} % "
        f"confidence between {format_seconds(low / 1e3)} and {format_seconds(high / 1e3)}. Under the profiler "
        f"a step takes {format_seconds(step['profiled'] / 1e3)}.",
    )
    columns[1].metric(
        "Peak memory, measured",
        format_bytes(peak["measured"]),
        _off(peak["measured"], peak["predicted"], format_bytes),
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="Weights, gradients, optimiser state, batch and activations at the worst moment of a step.",
    )
    columns[2].metric(
        "Reached, measured",
        f"{format_flops(flops / max(1e-9, step['measured'] / 1e3))}/s",
        f"{format_flops(flops)} a step",
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="Operations of matrix products and convolutions, over the measured time of a step.",
    )
    columns[3].metric(
        "In components, measured",
        f"{100 * opened.figures['in_components']:.1f} %",
        f"{100 * opened.figures['attributed']:.1f} % has a name",
        delta_color="off",
        delta_arrow="off",
        border=True,
        help="The share of the profiled time that stands in components, backward included; the rest with a name is "
        f"the loss, the update and the model's own. {format_seconds(opened.figures['unattributed_ms'] / 1e3)} of a "
        "step has no name.",
    )


def _off(measured: float, predicted: float | None, written: Any) -> str:
    """Say what was predicted, and how far that is off."""
    if predicted is None:
        return "not predicted"
    off = 100 * (predicted - measured) / measured if measured else 0.0
    return f"{written(predicted)} predicted ({off:+.1f} %)"


def _energy(opened: Opened) -> str:
    """Say what the step's energy is, or why there is no figure."""
    energy = opened.figures.get("energy")
    if not energy:
        return "Energy: not measured, for this profile did not look for a counter."
    words = energy_words(energy)
    if energy.get("joules") is None:
        return f"Energy: {words}."
    return (
        f"Energy of {energy['steps']:,} steps in {format_seconds(energy['seconds'])}: {words}. No counter tells "
        "components apart: each has the share of it that it has of the time, which is assumed."
    )


def _network(opened: Opened, info: PartsInfo) -> None:
    """Show the network painted by one quantity; a click on a box chooses its component."""
    architecture = state.parsed(opened.architecture)[0]
    if architecture is None or sum(1 for _ in architecture.walk()) > MOST_BOXES:
        st.caption("The network is too large for a picture here; the table has all of it.")
        return
    name = st.selectbox(
        "Paint the network by",
        list(QUANTITIES),
        format_func=lambda name: f"{QUANTITIES[name].title} ({QUANTITIES[name].source})",
        key=f"{opened.key}.quantity",
    )
    laid_out = _laid_out(opened)
    if laid_out is None:
        return
    if all(QUANTITIES[str(name)].of(part) is None for part in info.parts):
        why = _energy(opened) if name == "joules" else "This profile does not hold it."
        st.caption(f":material/info: {shell.escaped(why)}")
    paths = {address: path for address, path, _ in architecture.walk()}
    chosen = state.keep(CHOSEN, "")
    selected = next((address for address, path in paths.items() if path == chosen), None)
    diagram(
        f"{opened.key}.diagram",
        painted_by(laid_out, architecture, by_node(info), str(name)),
        selected,
        lambda address: state.put(CHOSEN, paths.get(address, address.removeprefix("task."))),
        height_px=round(min(_MOST_PX, max(_LEAST_PX, laid_out.height + 32))),
    )


def _laid_out(opened: Opened) -> DiagramInfo | None:
    """Lay out the network as it was profiled, with the input and head that the task supplied."""
    architecture = state.parsed(opened.architecture)[0]
    task = predictions.task(str(opened.figures.get("task", "")))
    known = predictions.components()
    if architecture is None or task is None:
        return None if architecture is None else diagram_info(architecture, catalogue=known)
    kinds = {entry["name"]: str(entry["kind"]) for entry in known}
    whole = complete(architecture, task["input_node"], task["head_node"], kinds.get)
    own = {node.id for node in architecture.nodes}
    supplied = [node.id for node in whole.nodes if node.id not in own]
    return diagram_info(whole, catalogue=known, supplied=supplied)


def _chosen(info: PartsInfo) -> None:
    """Tell everything of the component that was clicked."""
    path = state.keep(CHOSEN, "")
    part: Part | None = by_node(info).get(path)
    if part is None:
        st.caption("Click a box of the network to see all of its figures here.")
        return
    with st.container(border=True):
        st.markdown(f"**{shell.escaped(path)}**")
        words = []
        for quantity in QUANTITIES.values():
            value = quantity.of(part)
            if value is not None:
                words.append(f"{quantity.title} ({quantity.source}): **{quantity.written(value)}**")
        st.markdown("  \n".join(words))


def _table(opened: Opened, info: PartsInfo) -> None:
    """Show every component as a row, to sort and to take away."""
    shown = info.table()
    st.dataframe(
        shown,
        key=f"{opened.key}.components",
        hide_index=True,
        alt="Table of components",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f" if "ms" in name else "localized")
            for name in shown.columns[1:]
        },
    )
    st.download_button(
        "Components (CSV)",
        lambda: shown.to_csv(index=False),
        "components.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        key=f"{opened.key}.components.csv",
    )
