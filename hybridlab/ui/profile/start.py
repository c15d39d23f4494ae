"""What to profile: an architecture on a task, measured step by step; and what was profiled before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.runs.launcher import submit
from hybridlab.runs.record import ACTIVE, Run
from hybridlab.runs.store import open_store
from hybridlab.training.grown import trained_text
from hybridlab.ui import predictions, shell
from hybridlab.ui.forms import parameters
from hybridlab.ui.profile.kind import KIND, MOST_STEPS, STEPS
from hybridlab.ui.runs import opened
from hybridlab.ui.runs.active import line
from hybridlab.ui.train import setup
from hybridlab.ui.train.estimate import estimate, wait_for
from hybridlab.units import format_bytes, format_seconds

_SETTINGS = ("batch", "precision", "device", "seed")
"""What of a training's settings a step depends on."""
_MOST = 12


def design_form() -> None:
    """Let the user choose what is profiled, and start it."""
    text, preset = setup.architecture_choice()
    task = setup.task_choice()
    settings = step_settings(task, "profile")
    steps = st.number_input(
        "Steps",
        min_value=1,
        max_value=MOST_STEPS,
        value=STEPS,
        key="profile.steps",
        help="So many are timed without the profiler, and as many under it; one more is followed operator by operator.",
    )
    if not text:
        return
    found = estimate(text, task, settings)
    if found.pending:
        wait_for(text, task, settings)
    elif found.peak_bytes is not None and found.seconds is not None:
        all_steps = int(task["default_training"].get("steps") or 1000)
        step_s = found.seconds / all_steps
        st.caption(
            f"Predicted: {format_seconds(step_s)} a step, {format_bytes(found.peak_bytes)} at the peak. "
            "The profile measures both and shows them beside each other."
        )
    shell.problems(found.problems)
    if st.button(
        "Profile",
        type="primary",
        icon=":material/monitoring:",
        width="stretch",
        disabled=found.blocked,
        key="profile.start",
    ):
        _start(text, preset, settings, int(steps))


def step_settings(task: Mapping[str, Any], page: str) -> dict[str, Any]:
    """Show what a step depends on; return the settings that differ from the task's own, as Train keeps them."""
    kept, change = setup.kept_settings(task)
    known = setup.setting_fields(task)
    values = {field.name: field.default for field in known} | kept
    shown = [field for name in _SETTINGS for field in known if field.name == name]
    parameters(shown, values, f"{page}.{task['name']}", change, columns=2)
    return {**kept, "task": task["name"], "task_params": setup.kept_params(task)}


def of_training(run: Run) -> None:
    """Offer to profile the network that a training has left, with its weights, and show the profile."""
    if st.button(
        "Profile the trained network",
        icon=":material/monitoring:",
        key=f"profile.of.{run.id}",
        help="Measures a step from the trained weights, and how routes, time and memory change with the input.",
    ):
        settings = dict(run.spec.get("training") or {})
        spec = {
            "architecture": trained_text(run.spec),
            "training": settings,
            "preset": run.spec.get("preset"),
            "profile": {"steps": STEPS, "weights_of": run.id},
        }
        with shell.told():
            made = submit(
                KIND, f"{run.name}, trained", spec, device=str(settings.get("device", "auto"))
            )
            shell.go(shell.PROFILE, run=made.id)


def _start(text: str, preset: str | None, settings: Mapping[str, Any], steps: int) -> None:
    """Check once more, queue the profile and show it; what is wrong is told instead."""
    with st.spinner("Checking the architecture against the task …"):
        answer = predictions.prepare(text, settings)
    if answer.problems:
        shell.problems(answer.problems)
        return
    made = answer.value
    spec = {
        "architecture": text,
        "training": made["training"],
        "preset": preset,
        "profile": {"steps": steps},
    }
    try:
        run = submit(KIND, made["name"], spec, device=made["training"]["device"])
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    shell.go(shell.PROFILE, run=run.id)


def earlier() -> None:
    """List the profiles that were made before, the newest first."""
    with shell.told():
        opened.earlier(
            "Profiles of designs",
            KIND,
            _MOST,
            "None yet. A profile measures one training step component by component: time, traffic, memory, and how "
            "far the prediction was off.",
        )
        trainings = open_store().list(kind="train", states=ACTIVE, limit=4)
        if trainings:
            st.caption(
                "Trainings under way can be profiled without stopping them, on their own page:"
            )
            for run in trainings:
                line(run)
