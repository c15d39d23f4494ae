"""What was measured of a step and is in a training's settings: does it fit the design, and how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.ui import predictions, state
from hybridlab.ui.train import setup


def fingerprint_of(text: str, task: Mapping[str, Any]) -> str | None:
    """Return that of a design with the input and the head that a task supplies; None where there is no design."""
    architecture = state.parsed(text)[0]
    if architecture is None:
        return None
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    return complete(architecture, task["input_node"], task["head_node"], kinds.get).fingerprint


def made_for(fingerprint: str, text: str, task: Mapping[str, Any]) -> bool:
    """Say whether this design on this task has a fingerprint; tell where not. True where there is no design."""
    if fingerprint_of(text, task) in (None, fingerprint):
        return True
    st.error(
        "This was measured for another architecture or task; measure this design on the Memory page, or train "
        "without it.",
        icon=":material/error:",
    )
    return False


def remove(task: Mapping[str, Any], setting: str) -> None:
    """Take a setting out of the form."""
    name = f"settings.{task['name']}"
    kept, _ = setup.kept_settings(task)
    state.put(name, {key: value for key, value in kept.items() if key != setting})
