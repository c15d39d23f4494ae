"""What designs take as their decisions let them train, predicted; and the settings that they are then trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import DeviceError, Problem, SpecError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.training_step import check_planned
from hybridlab.search.decisions import ALL, DECISIONS, FUSION, NONE, PLAN, PRECISION, USUAL
from hybridlab.search.landscape import SAME, TIMED_AS
from hybridlab.search.planned import Plans, plannable
from hybridlab.search.space import Choice, Design
from hybridlab.search.stepped import Steps
from hybridlab.tasks.base import Task
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec

_UNTOLD: Mapping[str, Mapping[str, str]] = {
    PLAN: dict.fromkeys(
        ("flops_step", "activation_bytes"), "is predicted of the step without a plan"
    ),
    PRECISION: {
        **dict.fromkeys(SAME, "is predicted from what components take in float32"),
        "activation_bytes": "is predicted of components in float32",
        "state_bytes_per_token": "counts numbers of float32",
    },
    FUSION: dict.fromkeys((*SAME, "activation_bytes"), "is predicted of the step without fusion"),
}
"""What is not predicted for a decision, and why."""


class Decided:
    """The decisions of a space whose designs are trained on one task; without any it has nothing to say."""

    def __init__(
        self,
        choices: Iterable[Choice],
        task: Task,
        training: TrainSpec,
        objectives: tuple[str, ...],
    ) -> None:
        """Take the space's choices, the task, the training, and what is to be traded.

        Raises:
            SpecError: such a training is not planned, has a plan or a fusion of its own or a format that its device
                does not have, or an objective is not predicted for a decision; it holds all of them.
        """
        self._varied = {one.name: one.values for one in choices if one.name in DECISIONS}
        problems = [*self._unpredicted(objectives), *self._unfit(training)]
        self._by_precision = self._trainings(training, problems)
        alone = not (training.tasks or training.stages or training.teacher)
        self._narrow = alone and numerics(training).dtype is not None
        if PLAN in self._varied:
            problems += self._unplanned()
        if problems:
            raise SpecError(problems)
        self._plans = {
            precision: Plans(task, spec)
            for precision, spec in self._by_precision.items()
            if PLAN in self._varied
        }
        self._steps = {
            precision: Steps(task, spec) for precision, spec in self._by_precision.items()
        }

    def __bool__(self) -> bool:
        """Whether peaks are not those of the plain step: something is decided, or all train in a 16-bit format."""
        return bool(self._varied) or self._narrow

    @property
    def plans(self) -> bool:
        """Whether the plan varies, so that a design may have none within its budget."""
        return bool(self._plans)

    def step(self, fitted: Architecture, design: Design) -> tuple[int, float | None] | None:
        """Return a step's bytes at its peak and its milliseconds, None where these are not predicted.

        None for the whole where no plan of the design is within its budget.
        """
        precision = self._precision(design)
        if PLAN in self._varied:
            fusion = self._fusion(fitted, design)
            figures = self._plans[precision].figures(fitted, str(design[PLAN]), fusion)
            return None if figures is None else (figures.peak_bytes, figures.step_ms)
        peak_bytes = self._steps[precision].peak_bytes(fitted, self._fusion(fitted, design))
        return peak_bytes, None

    def forward_bytes(self, fitted: Architecture, design: Design) -> int:
        """Return the most bytes that a pass forward of the training's batch has at once."""
        steps = self._steps[self._precision(design)]
        return steps.peak_bytes(fitted, self._fusion(fitted, design), training=False)

    def settings(self, fitted: Architecture, design: Design) -> dict[str, Any]:
        """Return the settings that a design decides for its training: plan, precision and fusion, where they matter."""
        precision = self._precision(design)
        found: dict[str, Any] = {}
        fusion = self._fusion(fitted, design)
        if str(design.get(PLAN, NONE)) != NONE:
            plan = self._plans[precision].plan(fitted, str(design[PLAN]), fusion)
            found |= {PLAN: plan.as_dict()} if plan is not None else {}
        if PRECISION in self._varied:
            found[PRECISION] = precision
        if fusion is not None:
            found[FUSION] = fusion.as_dict()
        return found

    def _fusion(self, fitted: Architecture, design: Design) -> Fusion | None:
        """Return what a design fuses; beside plans, what the planner takes of it."""
        precision = self._precision(design)
        fusion = self._steps[precision].fusion(fitted) if _fuses(design) else None
        if fusion is None or PLAN not in self._varied:
            return fusion
        return plannable(fusion, self._by_precision[precision])

    def _precision(self, design: Design) -> str:
        return str(design.get(PRECISION, ""))

    def _trainings(self, training: TrainSpec, problems: list[Problem]) -> dict[str, TrainSpec]:
        """Return the training by the precision that is decided; by "" where it is the training's own."""
        if PRECISION not in self._varied:
            return {"": training}
        found = {}
        for value in map(str, self._varied[PRECISION]):
            found[value] = training.model_copy(update={"precision": value})
            try:
                numerics(found[value])
            except DeviceError as error:
                problems += [
                    Problem(f"search.{PRECISION}", one.message, one.expected, one.got, one.fix)
                    for one in error.problems
                ]
                del found[value]
        return found

    def _unpredicted(self, objectives: tuple[str, ...]) -> list[Problem]:
        """Return which objectives are not predicted for what varies."""
        problems = []
        for decision, values in self._varied.items():
            if all(value == USUAL[decision] for value in values):
                continue
            for at, name in enumerate(objectives):
                if (why := _UNTOLD[decision].get(name)) is None:
                    continue
                fix = f"leave it out, or {decision!r} out of 'search'"
                if decision == PLAN:
                    fix += f"; {PLAN} trades peak_bytes against step_ms"
                elif name in TIMED_AS:
                    fix += f"; {TIMED_AS[name]} is timed in each trial"
                words = f"{name!r} {why}, so it cannot be traded where the {decision} varies"
                problems.append(Problem(f"objectives[{at}]", words, fix=fix))
        return problems

    def _unfit(self, training: TrainSpec) -> list[Problem]:
        """Return what the training's own settings hold that goes with one architecture alone, or with no fusion."""
        problems = []
        for name in MEASURED:
            if self._varied and getattr(training, name) is not None:
                words = "goes with one architecture, and here it would have to fit all of them"
                problems.append(Problem(f"training.{name}", words, fix="leave it out"))
        if {PRECISION, FUSION} & self._varied.keys():
            beside = {
                name: bool(getattr(training, name)) for name in ("tasks", "stages", "teacher")
            }
            words = "its step is not predicted in another precision or fused"
            problems += [
                Problem(f"training.{name}", words, fix="leave it out, or precision and fusion")
                for name, there in beside.items()
                if there
            ]
        return problems

    def _unplanned(self) -> list[Problem]:
        """Return what cannot be planned, by the planner's own word."""
        told = set()
        for spec in self._by_precision.values():
            try:
                check_planned(spec.model_copy(update={FUSION: None}))
            except SpecError as error:
                for one in error.problems:
                    decided = one.path == PRECISION and PRECISION in self._varied
                    path = f"search.{PRECISION}" if decided else f"training.{one.path}"
                    words = (
                        f"{one.message}, so it cannot vary beside the plan"
                        if decided
                        else one.message
                    )
                    fix = "let one of them vary" if decided else one.fix
                    told.add((path, words, one.expected, one.got, fix))
        return [Problem(*one) for one in sorted(told)]


def _fuses(design: Design) -> bool:
    return design.get(FUSION, NONE) == ALL
