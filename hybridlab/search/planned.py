"""A plan's decision as a choice: the memory that a design's step may take, for which parts are computed again.

``search: {plan: [none, 75%, 50%]}`` lets it vary: each is a budget as ``hybridlab plan --budget`` reads it, and stands
for the fastest plan within it. What a design learns is the same with every plan, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.planner import Planner
from hybridlab.planning.record import Budget, Figures, Plan
from hybridlab.planning.training_step import check_planned, plan_step
from hybridlab.search.space import Choice, Value
from hybridlab.tasks.base import Task
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec

PLAN = "plan"
NONE = "none"
"""The step as it is, with nothing computed again."""
_MOST = 16
_PLAIN_ONLY = ("flops_step", "activation_bytes")


def plan_choice(values: object, problems: list[Problem]) -> Iterator[Choice]:
    """Yield the choice of budgets that a file's ``search.plan`` lists; ``none`` and null are the step as it is."""
    expected = f"a list of 1 to {_MOST} budgets, such as [none, 75%, 50%]"
    if not isinstance(values, list) or not 1 <= len(values) <= _MOST:
        problems.append(Problem(f"search.{PLAN}", "has no values to choose from", expected))
        return
    found: list[Value] = []
    for value in values:
        try:
            text = NONE if value in (None, NONE) else "".join(str(value).split())
            if text != NONE:
                Budget.parse(text)
        except SpecError as error:
            problems += [
                Problem(f"search.{PLAN}", one.message, one.expected, one.got, one.fix)
                for one in error.problems
            ]
            continue
        found.append(text)
    if len(found) == len(values):
        yield Choice(PLAN, tuple(found), PLAN)


class Plans:
    """The plans of designs that are trained with the same settings; what a design takes is worked out once."""

    def __init__(self, task: Task, training: TrainSpec, objectives: tuple[str, ...]) -> None:
        """Take the task and the training.

        Raises:
            SpecError: such a training is not planned, it has a plan of its own, or an objective knows nothing of plans.
        """
        problems = [
            Problem(
                f"objectives[{at}]",
                f"{name!r} is predicted of the step without a plan, so it cannot be traded where the plan varies",
                fix=f"leave it out, or 'plan' out of 'search'; {PLAN} trades peak_bytes against step_ms",
            )
            for at, name in enumerate(objectives)
            if name in _PLAIN_ONLY
        ]
        for name in MEASURED:
            if getattr(training, name) is not None:
                words = "goes with one architecture, and here it would have to fit all of them"
                problems.append(Problem(f"training.{name}", words, fix="leave it out"))
        try:
            check_planned(training)
        except SpecError as error:
            problems += [
                Problem(f"training.{one.path}", one.message, one.expected, one.got, one.fix)
                for one in error.problems
            ]
        if problems:
            raise SpecError(problems)
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
