"""How long a training will take and how much memory it needs, predicted before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import streamlit as st

from hybridlab.errors import Problem
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.predictions import Shapes
from hybridlab.units import format_bytes, format_count, format_seconds


@dataclass(frozen=True)
class Estimate:
    """What a training is expected to take; empty while it is being worked out."""

    seconds: float | None = None
    peak_bytes: float | None = None
    params: int | None = None
    problems: tuple[Problem, ...] = ()
    pending: bool = False

    @property
    def blocked(self) -> bool:
        """Whether the training cannot start."""
        return any(problem.severity == "error" for problem in self.problems)


def estimate(
    text: str, task: Mapping[str, Any], settings: Mapping[str, Any], wait_s: float = 0.3
) -> Estimate:
    """Estimate a training from the predicted cost of one step."""
    architecture, problems = state.parsed(text)
    if architecture is None:
        return Estimate(problems=problems)
    values = {**task["default_training"], **settings}
    parts = int(values.get("accumulation") or 1)
    batch = max(1, int(values.get("batch") or 64) // max(1, parts))
    shapes = Shapes(task["name"], tuple(dict(settings.get("task_params") or {}).items()), batch)
    answer = predictions.predict(text, shapes, f"{state.session_name()}.train", wait_s)
    if answer is None:
        return Estimate(pending=True)
    if answer.problems:
        return Estimate(problems=answer.problems)
    found = predictions.problems_of(answer.value)
    if any(problem.severity == "error" for problem in found):
        return Estimate(problems=tuple(found))
    steps = int(values.get("steps") or 1000)
    seconds = answer.value["step_ms"] / 1e3 * parts * steps
    return Estimate(seconds, answer.value["peak_bytes"], answer.value["params"], tuple(found))


def estimate_panel(found: Estimate) -> None:
    """Show the estimate, or what keeps the training from starting."""
    st.markdown("**Before you start** (predicted)")
    time_text = format_seconds(found.seconds) if found.seconds is not None else "–"
    left, right = st.columns(2)
    left.metric(
        "Time, predicted",
        time_text,
        help="Steps times the predicted time of one; scoring and a busy machine come on top.",
    )
    right.metric(
        "Memory, predicted",
        format_bytes(found.peak_bytes) if found.peak_bytes is not None else "–",
        help="Weights, gradients, AdamW's moments and activations. Python and torch need some 300 MiB beside.",
    )
    if found.params is not None:
        st.caption(f"{format_count(found.params)} parameters, with the task's input and head.")
    if found.peak_bytes is not None and found.peak_bytes > (
        free := psutil.virtual_memory().available
    ):
        st.warning(
            f"This needs more memory than is free now ({format_bytes(free)}). "
            "Take a smaller batch, or cut it into parts (accumulation).",
            icon=":material/memory:",
        )
    shell.problems(found.problems)


@st.fragment(run_every=0.5)
def wait_for(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Draw the page again as soon as the estimate is there."""
    if not estimate(text, task, settings, 0.0).pending:
        st.rerun(scope="app")
    st.caption(":material/hourglass_top: Working out time and memory …")
