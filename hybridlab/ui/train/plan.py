"""A memory plan in a training's settings: what it promises, whether it fits the design, and how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.errors import HybridLabError
from hybridlab.planning.record import Plan
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.train import setup
from hybridlab.units import format_bytes, format_seconds


def plan_panel(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show the plan of the settings, where they have one."""
    if not settings.get("plan"):
        return
    with st.container(border=True):
        st.markdown("**Memory plan**")
        try:
            plan = Plan.read(settings["plan"])
        except HybridLabError as error:
            shell.problems(error.problems)
        else:
            _told(plan, text, task, settings)
        st.button(
            "Train without the plan",
            icon=":material/close:",
            key="train.plan.remove",
            on_click=_remove,
            args=(task,),
        )


def _told(plan: Plan, text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Say what the plan promises, and where it does not fit."""
    st.markdown(
        f"{plan.told}: "
        f"{format_bytes(plan.predicted.peak_bytes)} at the peak instead of {format_bytes(plan.plain.peak_bytes)}, "
        f"{format_seconds(plan.predicted.step_ms / 1e3)} a step instead of "
        f"{format_seconds(plan.plain.step_ms / 1e3)} (predicted). "
        + (
            "What is learnt stays the same, bit for bit."
            if plan.exact
            else "What is learnt changes."
        )
        + (f" {plan.note}" if plan.note else "")
    )
    architecture = state.parsed(text)[0]
    if architecture is None:
        return
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    whole = complete(architecture, task["input_node"], task["head_node"], kinds.get)
    if whole.fingerprint != plan.fingerprint:
        st.error(
            "This plan was made for another architecture or task; make one for this design on the Memory page, or "
            "train without it.",
            icon=":material/error:",
        )
    elif int(settings.get("batch") or plan.batch) != plan.batch:
        st.warning(
            f"It was made for batches of {plan.batch}; with another batch it works, but its bytes and times differ.",
            icon=":material/warning:",
        )


def _remove(task: Mapping[str, Any]) -> None:
    name = f"settings.{task['name']}"
    kept, _ = setup.kept_settings(task)
    state.put(name, {key: value for key, value in kept.items() if key != "plan"})
