"""From a plan to the form of a new training that has it in its settings."""

from __future__ import annotations

from hybridlab.planning.record import Plan
from hybridlab.ui import shell, state
from hybridlab.ui.memory.work import Work
from hybridlab.ui.train.source import choose


def train_with(work: Work, plan: Plan) -> None:
    """Open the form of a new training on this design and task, the plan in its settings; nothing is started."""
    if work.run is not None:
        choose(
            work.text,
            work.preset,
            f"the plan of {work.name}",
            {**work.settings, "task": work.task["name"], "batch": plan.batch},
        )
    name = f"settings.{work.task['name']}"
    state.put(name, {**state.keep(name, {}), "plan": plan.as_dict()})
    shell.go(shell.TRAIN)
