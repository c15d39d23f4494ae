"""What a step takes within a budget of memory: a design's plans, as the planner makes them.

Each budget is one as ``hybridlab plan --budget`` reads it, and stands for the fastest plan within it. What a design
learns is the same with every plan, bit for bit.
"""

from __future__ import annotations

import contextlib

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import SpecError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.planner import Planner
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.planning.training_step import check_planned, plan_step
from hybridlab.search.decisions import NONE
from hybridlab.tasks.base import Task
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec


class Plans:
    """The plans of designs that are trained with the same settings; what a design takes is worked out once."""

    def __init__(self, task: Task, training: TrainSpec) -> None:
        """Take the task and the training, whose steps can be planned."""
        self._task, self._training = task, training
        self._figures: dict[tuple[str, str, bool], Figures | None] = {}
        self._last: tuple[tuple[str, bool], Planner] | None = None

    def figures(
        self, fitted: Architecture, budget: str, fusion: Fusion | None = None
    ) -> Figures | None:
        """Return what a design's step takes within a budget, predicted; None where no plan is within it."""
        key = fitted.fingerprint, budget, fusion is not None
        if key not in self._figures:
            plan = self._plan(fitted, budget, fusion)
            self._figures[key] = None if plan is None else plan.predicted
        return self._figures[key]

    def plan(self, fitted: Architecture, budget: str, fusion: Fusion | None = None) -> Plan | None:
        """Return the plan of a design within a budget, ready for its training; None where it has none to follow."""
        plan = self._plan(fitted, budget, fusion)
        if plan is None or not plan.does_something:
            return None
        device = numerics(self._training).device.type
        return plan.model_copy(update={"task": self._training.task, "device": device})

    def _plan(self, fitted: Architecture, budget: str, fusion: Fusion | None) -> Plan | None:
        made = self._planner(fitted, fusion)
        if budget == NONE:
            return made.plan(made.curve.point(len(made.curve) - 1))
        try:
            return made.best(Budget.parse(budget))
        except SpecError:
            return None

    def _planner(self, fitted: Architecture, fusion: Fusion | None) -> Planner:
        """Return the step's curve; that of the design asked for last is kept, since its other budgets come next."""
        key = fitted.fingerprint, fusion is not None
        if self._last is None or self._last[0] != key:
            content = None if fusion is None else fusion.as_dict()
            spec = self._training.model_copy(update={"fusion": content})
            self._last = key, plan_step(fitted, self._task, spec, measure=False, threads=1)
        return self._last[1]


def plannable(fusion: Fusion, training: TrainSpec) -> Fusion | None:
    """Return what the planner takes of a fusion, such as products of one component; None where that is nothing."""
    kept = []
    for names in fusion.products:
        alone = fusion.model_copy(update={"products": (names,)}).as_dict()
        with contextlib.suppress(SpecError):
            check_planned(training.model_copy(update={"fusion": alone}))
            kept.append(names)
    return fusion.model_copy(update={"products": tuple(kept)}) if kept else None
