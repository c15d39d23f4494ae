"""What the Memory page is open on: a design, the task and the settings of one training step; chosen, or a run's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.errors import Problem, TaskError
from hybridlab.planning.record import Plan
from hybridlab.runs.record import Run
from hybridlab.training.spec import MEASURED
from hybridlab.ui import predictions, state
from hybridlab.ui.memory import measured
from hybridlab.ui.memory.kind import BESIDE
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.start import step_settings
from hybridlab.ui.train import setup


@dataclass(frozen=True)
class Work:
    """A training step that is looked at; ``run`` is the measurement that it was opened from."""

    text: str
    preset: str | None
    task: Mapping[str, Any]
    settings: Mapping[str, Any]
    run: Run | None = None
    plan: Plan | None = None
    """What that measurement is of."""
    better: Mapping[str, Any] = field(default_factory=dict)
    """What the settings of a training hold beside, because it was measured to be better: fusion, tuning …"""

    @property
    def key(self) -> str:
        """What the keys of this page's widgets begin with."""
        return f"memory.{self.run.id}" if self.run else "memory"

    @property
    def name(self) -> str:
        """The design's name, and the task's."""
        architecture = state.parsed(self.text)[0]
        return f"{architecture.name if architecture else 'design'} on {self.task['name']}"

    @property
    def opened(self) -> Opened:
        """What figures and tables are named after."""
        return Opened(self.key, f"{self.name} memory", "profile", Path(), {}, self.text)


def design_form() -> Work | None:
    """Let the user choose a design, a task and what a step depends on; None where there is no design."""
    left, right = st.columns(2, gap="medium")
    if (
        state.design() is not None
    ):  # what is being designed comes first, until something else is chosen
        state.keep("train_source", setup.DESIGN)
    with left:
        text, preset = setup.architecture_choice()
        task = setup.task_choice()
    with right:
        settings = step_settings(task, "memory")
    if not text:
        return None
    return Work(text, preset, task, without_plan(settings), better=_better(settings))


def of_run(run: Run) -> Work:
    """Return what a run measured.

    Raises:
        TaskError: its task is not known here.
        RunError: its plan cannot be read.
    """
    settings = dict(run.spec.get("training") or {})
    task = predictions.task(str(settings.get("task", "")))
    if task is None:
        raise TaskError(
            Problem(f"run {run.id}", "was on a task that is not here", got=str(settings["task"]))
        )
    preset = run.spec.get("preset")
    text = str(run.spec.get("architecture", ""))
    if run.kind in BESIDE:
        return Work(text, str(preset) if preset else None, task, without_plan(settings), run)
    known = measured.read(run.id)
    plan = Plan.read(run.spec.get("plan") or {}) if known is None else known.plan
    plain, better = without_plan(settings), _better(settings)
    return Work(text, str(preset) if preset else None, task, plain, run, plan, better)


def _better(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what settings hold that was measured of a step before, but for a plan."""
    return {name: settings[name] for name in MEASURED if name != "plan" and settings.get(name)}


def without_plan(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without what was measured of a step before: it is the step as designed that is looked at."""
    return {name: value for name, value in settings.items() if name not in MEASURED}
