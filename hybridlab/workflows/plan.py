"""Plans the step of a training: recomputation for a memory budget, and where that is asked for, its measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.measure import measure_plan
from hybridlab.planning.planner import Planner, planner
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.profiling.calibrate import calibrate
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.trace.machine import this_cpu
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.workflows.profile import recipe, training_step


@dataclass(frozen=True)
class Planned:
    """A plan, the curve that it is a point of, and what was measured where it was applied."""

    chosen: Plan
    points: tuple[Plan, ...]
    plain_measured: Figures | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON; ``plain`` is measured where the plan is, else predicted."""
        chosen, measured = self.chosen, self.chosen.measured
        points = [_point(plan, plan.predicted, "predicted") for plan in self.points]
        if measured is not None and self.plain_measured is not None:
            points.append(_point(chosen, measured, "measured"))
            plain = chosen.model_copy(update={"recompute": ()})
            points.append(_point(plain, self.plain_measured, "measured"))
        return {
            "points": points,
            "chosen": {**chosen.predicted.model_dump(), "recompute": _runs(chosen)},
            "measured": None if measured is None else measured.model_dump(),
            "plain": (self.plain_measured or chosen.plain).model_dump(),
            "plain_predicted": chosen.plain.model_dump(),
            "plan": chosen.as_dict(),
        }


def plan_training(
    architecture: Architecture, settings: Mapping[str, Any], budget: Budget, *, apply: bool = False
) -> Planned:
    """Plan the step of a training with these settings, as ``TrainSpec`` has them; measure it if it is to be applied.

    Raises:
        SpecError: the architecture or a setting is wrong, or no plan is within the budget.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    task, spec = prepare(settings)
    completed = fit(architecture, task)
    made = plan_step(completed, task, spec)
    chosen = made.best(budget).model_copy(
        update={"task": spec.task, "device": numerics(spec).device.type}
    )
    points = tuple(made.points())
    if not apply:
        return Planned(chosen, points)
    model = build(completed, task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    measured, plain = measure_plan(step, chosen)
    return Planned(chosen.model_copy(update={"measured": measured}), points, plain)


def plan_step(completed: Architecture, task: Task, spec: TrainSpec) -> Planner:
    """Trace and solve the step of a training, with components' times as they are measured on this machine.

    Raises:
        SpecError: the architecture has errors, or the settings say what is not planned.
    """
    problems = []
    if spec.tasks is not None:
        problems.append(
            Problem("tasks", "is not planned: several tasks have steps of several kinds")
        )
    if numerics(spec).dtype is not None:
        problems.append(
            Problem("precision", "is not planned", "float32", spec.precision, "leave it out")
        )
    if spec.accumulation > 1:
        problems.append(
            Problem(
                "accumulation",
                "is not planned: gradients stay from part to part",
                "1",
                str(spec.accumulation),
                "plan a smaller batch",
            )
        )
    if problems:
        raise SpecError(problems)
    roofline = this_cpu(torch.get_num_threads())
    inference = infer(completed, task.input_type())
    if inference.errors:
        raise SpecError(inference.errors)
    data = task.train_batch(0, spec.batch, spec.seed)
    return planner(
        completed,
        task.input_type(),
        batch=spec.batch,
        length=task.length,
        recipe=recipe(task, spec, data.targets),
        roofline=roofline,
        calibration=calibrate(completed, inference, roofline),
    )


def _runs(plan: Plan) -> list[list[str]]:
    return [list(run) for run in plan.recompute]


def _point(plan: Plan, figures: Figures, source: str) -> dict[str, Any]:
    return {"plan": _runs(plan), **figures.model_dump(), "source": source}
