"""From what a step was measured to do better, or sorted batches, to the form of a new training that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.planning.record import Plan
from hybridlab.ui import shell, state
from hybridlab.ui.memory.work import Work
from hybridlab.ui.train.source import choose


def train_with(work: Work, plan: Plan) -> None:
    """Open the form of a new training on this design and task, the plan in its settings; nothing is started."""
    _train(work, {"plan": plan.as_dict()}, plan.batch)


def train_with_choice(work: Work, name: str, chosen: Mapping[str, Any]) -> None:
    """Open the form of a new training on this design and task, what was chosen in its settings; nothing is started."""
    _train(work, {name: dict(chosen)}, int(work.settings["batch"]) if work.run else 0)


def train_with_buckets(work: Work, count: int) -> None:
    """Open the form of a new training on this design and task, so many batches sorted together; nothing is started."""
    _train(work, {"buckets": count}, int(work.settings["batch"]) if work.run else 0)


def _train(work: Work, more: Mapping[str, Any], batch: int) -> None:
    if work.run is not None:
        choose(
            work.text,
            work.preset,
            f"the plan of {work.name}",
            {**work.settings, "task": work.task["name"], "batch": batch},
        )
    name = f"settings.{work.task['name']}"
    state.put(name, {**state.keep(name, {}), **more})
    shell.go(shell.TRAIN)
