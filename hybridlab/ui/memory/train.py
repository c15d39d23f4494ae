"""From a plan or a fusion to the form of a new training that has it in its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.planning.record import Plan
from hybridlab.ui import shell, state
from hybridlab.ui.memory.work import Work
from hybridlab.ui.train.setup import DESIGN


def train_with(work: Work, plan: Plan) -> None:
    """Open the form of a new training on this design and task, the plan in its settings; nothing is started."""
    _train(work, {"plan": plan.as_dict()}, plan.batch)


def train_fused(work: Work, fusion: Mapping[str, Any]) -> None:
    """Open the form of a new training on this design and task, the fusion in its settings; nothing is started."""
    _train(work, {"fusion": dict(fusion)}, int(work.settings["batch"]) if work.run else 0)


def _train(work: Work, more: Mapping[str, Any], batch: int) -> None:
    if work.run is not None:
        _choose(work)
    name = f"settings.{work.task['name']}"
    now = {**state.keep(name, {}), **({"batch": batch} if work.run is not None else {})}
    state.put(name, {**now, **more})
    shell.go(shell.TRAIN)


def _choose(work: Work) -> None:
    """Choose a run's design and task on the forms of all pages."""
    if work.preset and _is_preset(work.preset, work.text):
        state.put("train_source", f"preset {work.preset}")
    else:
        state.open_design(work.text, f"the plan of {work.name}")
        state.put("train_source", DESIGN)
    task = str(work.task["name"])
    state.put("train_task", task)
    state.put(f"task_params.{task}", dict(work.settings.get("task_params") or {}))


def _is_preset(name: str, text: str) -> bool:
    try:
        return library.find(name).read_text(encoding="utf-8") == text
    except (HybridLabError, OSError):
        return False
