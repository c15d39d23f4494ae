"""How long a training will take and how much memory it needs, predicted before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.planning.record import Plan
from hybridlab.training.grown import trained_text
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.predictions import Shapes
from hybridlab.ui.train.left_out import left_out
from hybridlab.ui.train.stages import cell
from hybridlab.ui.train.teacher_cost import teacher_cost
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_bytes, format_count, format_seconds


@dataclass(frozen=True)
class Estimate:
    """What a training is expected to take; empty while it is being worked out."""

    seconds: float | None = None
    peak_bytes: float | None = None
    params: int | None = None
    groups: tuple[Mapping[str, Any], ...] = ()
    """What each group keeps, as ``GroupMemory.as_dict``; empty where all weights go by AdamW."""
    problems: tuple[Problem, ...] = ()
    pending: bool = False
    note: str = ""
    """What of the settings the figures leave out, in sentences."""

    @property
    def blocked(self) -> bool:
        """Whether the training cannot start."""
        return any(problem.severity == "error" for problem in self.problems)


def estimate(
    text: str, task: Mapping[str, Any], settings: Mapping[str, Any], wait_s: float = 0.3
) -> Estimate:
    """Estimate a training, and check all that a start would check, so that it is told before it."""
    found = _predicted(text, task, settings, wait_s)
    if found.blocked or not text:
        return found
    # Beside the stages the same was asked just now: what was not known there comes with the next drawing, to both.
    patience_s = 0.0 if settings.get("stages") else wait_s
    checked = predictions.trainable(text, settings, f"{state.session_name()}.train", patience_s)
    if checked is None:
        return replace(found, pending=True)
    known = {problem.sentence() for problem in found.problems}
    stages = [dict(stage) for stage in settings.get("stages") or ()]
    wrong = [problem for problem in checked.problems if problem.sentence() not in known]
    told = [replace(problem, path=cell(problem.path, stages)) for problem in wrong]
    return replace(found, problems=(*found.problems, *told))


def _predicted(
    text: str, task: Mapping[str, Any], settings: Mapping[str, Any], wait_s: float
) -> Estimate:
    """Estimate a training from the predicted cost of one step, of the largest model where it grows."""
    text = trained_text({"architecture": text, "training": settings})
    architecture, problems = state.parsed(text)
    if architecture is None:
        return Estimate(problems=problems)
    values = {**task["default_training"], **settings}
    parts = int(values.get("accumulation") or 1)
    batch = max(1, int(values.get("batch") or 64) // max(1, parts))
    shapes = Shapes(task["name"], tuple(dict(settings.get("task_params") or {}).items()), batch)
    answer = _step(text, shapes, settings, wait_s)
    if answer is None:
        return Estimate(pending=True)
    if answer.problems:
        return Estimate(problems=answer.problems)
    found = predictions.problems_of(answer.value)
    if any(problem.severity == "error" for problem in found):
        return Estimate(problems=tuple(found))
    steps = int(values.get("steps") or 1000)
    taught = teacher_cost(settings, shapes, wait_s)
    if taught is None:
        return Estimate(pending=True)
    seconds = (answer.value["step_ms"] + taught.step_ms) / 1e3 * parts * steps
    peak_bytes, groups = answer.value["peak_bytes"] + taught.peak_bytes, ()
    if (plan := _plan(settings)) is not None:
        seconds *= plan.predicted.step_ms / plan.plain.step_ms
        share = plan.predicted.peak_bytes / plan.plain.peak_bytes
        peak_bytes = plan.predicted.peak_bytes if plan.batch == batch else share * peak_bytes
    if settings.get("groups"):
        kept = predictions.update_memory(
            text, _of_groups(settings), f"{state.session_name()}.train", wait_s
        )
        if kept is None:
            return Estimate(pending=True)
        if kept.problems:
            return Estimate(problems=kept.problems)
        groups = tuple(kept.value)
        if plan is None:  # a plan's bytes know the optimisers
            peak_bytes += _beyond_adamw(groups)
    params = answer.value["params"]
    return Estimate(seconds, peak_bytes, params, groups, tuple(found), note=left_out(settings))


def _plan(settings: Mapping[str, Any]) -> Plan | None:
    """Return the plan of the settings; None where there is none, or one that cannot be read, which the page tells."""
    try:
        return Plan.read(settings["plan"]) if settings.get("plan") else None
    except HybridLabError:
        return None


def _step(text: str, shapes: Shapes, settings: Mapping[str, Any], wait_s: float) -> Answer | None:
    """Ask for the cost of one step, on several tasks where there are several; None while there is no answer."""
    owner = f"{state.session_name()}.train"
    if not settings.get("tasks"):
        return predictions.predict(text, shapes, owner, wait_s)
    deciding = {name: settings[name] for name in ("task", "task_params", "tasks")}
    return predictions.predict_several(text, deciding, shapes.batch, owner, wait_s)


def _of_groups(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what optimisers keep, so that no other one asks anew."""
    deciding = ("task", "task_params", "tasks", "groups")
    return {name: settings[name] for name in deciding if settings.get(name) is not None}


def _beyond_adamw(groups: Sequence[Mapping[str, Any]]) -> int:
    """Return by how much these groups keep more than gradients and AdamW's two moments of all weights."""
    kept = sum(int(group["gradient_bytes"]) + int(group["state_bytes"]) for group in groups)
    return kept - 3 * sum(int(group["weight_bytes"]) for group in groups)


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
        help="Weights, gradients, what the optimisers remember, and activations. Python and torch need some 300 MiB "
        "beside.",
    )
    if found.note:
        st.caption(shell.escaped(found.note))
    if found.params is not None:
        st.caption(f"{format_count(found.params)} parameters, with the task's input and head.")
    if found.groups:
        told = [
            f"{shell.escaped(str(group['name']))} {format_bytes(group['state_bytes'])} "
            f"({shell.escaped(str(group['optimiser']).replace('_', '-'))})"
            for group in found.groups
        ]
        st.caption("Optimisers remember, predicted: " + ", ".join(told) + ".")
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
        page_again()
    st.caption(":material/hourglass_top: Working out time and memory …")
