"""What a step takes within a budget of memory: a design's plans, as the planner makes them.

Each budget is one as ``hybridlab plan --budget`` reads it, and stands for the fastest plan within it. What a design
learns is the same with every plan, bit for bit.
"""

from __future__ import annotations

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import SpecError
from hybridlab.planning.planner import Planner
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.planning.training_step import plan_step
from hybridlab.search.decisions import NONE
from hybridlab.tasks.base import Task
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec


class Plans:
    """The plans of designs that are trained with the same settings; what a design takes is worked out once."""

    def __init__(self, task: Task, training: TrainSpec) -> None:
        """Take the task and the training, whose steps can be planned."""
        self._task, self._training = task, training
        self._figures: dict[tuple[str, str], Figures | None] = {}
        self._last: tuple[str, Planner] | None = None

    def figures(self, fitted: Architecture, budget: str) -> Figures | None:
        """Return what a design's step takes within a budget, predicted; None where no plan is within it."""
        key = fitted.fingerprint, budget
        if key not in self._figures:
            plan = self._plan(fitted, budget)
            self._figures[key] = None if plan is None else plan.predicted
        return self._figures[key]

    def plan(self, fitted: Architecture, budget: str) -> Plan | None:
        """Return the plan of a design within a budget, ready for its training; None where it has none to follow."""
        plan = self._plan(fitted, budget)
        if plan is None or not plan.does_something:
            return None
        device = numerics(self._training).device.type
        return plan.model_copy(update={"task": self._training.task, "device": device})

    def _plan(self, fitted: Architecture, budget: str) -> Plan | None:
        made = self._planner(fitted)
        if budget == NONE:
            return made.plan(made.curve.point(len(made.curve) - 1))
        try:
            return made.best(Budget.parse(budget))
        except SpecError:
            return None

    def _planner(self, fitted: Architecture) -> Planner:
        """Return the step's curve; that of the design asked for last is kept, since its other budgets come next."""
        if self._last is None or self._last[0] != fitted.fingerprint:
            made = plan_step(fitted, self._task, self._training, measure=False, threads=1)
            self._last = fitted.fingerprint, made
        return self._last[1]
