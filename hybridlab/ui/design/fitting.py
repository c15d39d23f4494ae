"""A design that brings its own input is looked at with a task that it can read."""

from __future__ import annotations

import dataclasses

import streamlit as st

from hybridlab.ui import predictions, shell, state

_FITTED = "design_fitted"


def fit_task(text: str, opened: str) -> None:
    """Choose another task for shapes and costs where a design that was just opened cannot read the chosen one.

    A language model with an embedding of its own would else begin with an error about pixels that nobody asked for.
    ``opened`` tells one opening from the next; what a user chooses after it stays.
    """
    if state.keep(_FITTED, "") == opened:
        return
    state.put(_FITTED, opened)
    accepted = _accepted(text)
    entries = {entry["name"]: entry for entry in predictions.tasks()}
    shapes = state.shapes()
    now = entries.get(shapes.task or "")
    if not accepted or (now is not None and now["input_kind"] in accepted):
        return
    found = next((entry for entry in entries.values() if entry["input_kind"] in accepted), None)
    if found is None:
        return
    state.set_shapes(dataclasses.replace(shapes, task=found["name"], task_params=()))
    st.toast(
        f"Shapes and costs are those of {shell.escaped(found['title'])} now: this design reads {found['input_kind']}.",
        icon=":material/straighten:",
    )


def _accepted(text: str) -> frozenset[str]:
    """Return the kinds of input that a design's own first node reads; none where the task supplies the input."""
    architecture = state.parsed(text)[0]
    if architecture is None or not architecture.nodes:
        return frozenset()
    inputs = {
        entry["name"]: frozenset(entry["accepts"])
        for entry in predictions.components()
        if entry["kind"] == "input"
    }
    return inputs.get(architecture.nodes[0].use or "", frozenset())
