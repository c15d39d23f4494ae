"""What the design costs, predicted, on the task's shapes; it follows every edit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.design.look import Look
from hybridlab.ui.held import held_key, key_showing
from hybridlab.units import format_bytes, format_count, format_flops, format_seconds

_HELP = {
    "Parameters": "Weights that training changes, with the input and head that the task supplies.",
    "FLOPs per sample": "Floating-point operations of one forward pass over one sample; a multiply-add counts as two.",
    "Peak memory, predicted": "Weights, gradients, AdamW's moments and activations of one training step.",
    "Step time, predicted": "One training step (forward, backward, update) by a roofline of this machine, one thread.",
}
_BATCH_PX, _METRIC_PX = 150, 180


def totals(known: Look) -> None:
    """Show parameters, FLOPs, memory and time of one training step, and for which task and batch."""
    cost = known.prediction
    values = ["–"] * len(_HELP)
    if cost is not None:
        values = [
            format_count(cost["params"]),
            format_flops(cost["flops_per_sample"]),
            format_bytes(cost["peak_bytes"]),
            format_seconds(cost["step_ms"] / 1e3),
        ]
    with st.container(key="design.totals", horizontal=True, vertical_alignment="bottom"):
        _choice()
        for (name, help), value in zip(_HELP.items(), values, strict=True):
            st.metric(name, value, help=help, width=_METRIC_PX)


def _choice() -> None:
    """Let the user choose for which task and batch shapes and costs are shown."""
    chosen = state.shapes()
    entries = {entry["name"]: entry for entry in predictions.tasks()}
    names = list(entries)
    st.selectbox(
        "Shapes and costs for task",
        names,
        index=names.index(chosen.task) if chosen.task in entries else 0,
        key=key_showing("shapes.task", chosen.task),
        format_func=lambda name: _described(entries.get(name), name, _params(chosen, name)),
        help="The task supplies input and head where the design has none, and the length of a sample.",
        on_change=_changed,
    )
    st.number_input(
        "Batch (samples)",
        1,
        65_536,
        chosen.batch,
        step=1,
        key=key_showing("shapes.batch", chosen.batch),
        on_change=_changed,
        width=_BATCH_PX,
    )


def _described(entry: Mapping[str, Any] | None, name: str, params: Mapping[str, Any]) -> str:
    if entry is None:
        return name
    if params and "length" not in params:
        return f"{entry['title']}, with settings of its own"
    return f"{entry['title']}, length {params.get('length', entry['length']):,}"


def _params(chosen: predictions.Shapes, name: str | None) -> Mapping[str, Any]:
    """Return the parameters that a task is looked at with, where it is the one that is chosen."""
    return dict(chosen.task_params) if name == chosen.task else {}


def _changed() -> None:
    task, batch = (st.session_state[held_key(name)] for name in ("shapes.task", "shapes.batch"))
    known = any(entry["name"] == task for entry in predictions.tasks())
    if known and isinstance(batch, int) and 1 <= batch <= 65_536:
        before = state.shapes()
        params = before.task_params if task == before.task else ()
        state.set_shapes(dataclasses.replace(before, task=task, task_params=params, batch=batch))


def ready() -> bool:
    """Make sure that palette and tasks are known; the first start of a version waits some seconds for them."""
    if predictions.lists_read():
        return True
    try:
        with st.spinner("Reading the palette …", show_time=True):
            predictions.components()
            predictions.tasks()
    except HybridLabError as error:
        shell.problems(error.problems)
        return False
    return True
