"""What a search needs to know of designs: their space, their price before a run, and what a run tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.decisions import DECISIONS
from hybridlab.search.pareto import hypervolume
from hybridlab.search.space import Choice, Codes, Design, Space

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """One axis of the front."""

    name: str
    direction: Literal["minimize", "maximize"]
    unit: str = ""
    predicted: bool = False
    """Whether it is predicted exactly before a trial runs; else the trial tells it."""
    formula: bool = False
    """Whether what a trial tells follows from a formula, so that nothing is measured."""

    @property
    def source(self) -> str:
        """Where its values come from, as it is told beside them."""
        if self.predicted:
            return "predicted"
        return "by formula" if self.formula else "measured"

    @property
    def sign(self) -> float:
        """Factor that turns the value into one to be made small."""
        return 1.0 if self.direction == "minimize" else -1.0


PREDICTED = {
    one.name: one
    for one in (
        Objective("params", "minimize", "parameters", predicted=True),
        Objective("flops_forward", "minimize", "FLOPs", predicted=True),
        Objective("flops_step", "minimize", "FLOPs", predicted=True),
        Objective("peak_bytes", "minimize", "bytes", predicted=True),
        Objective("activation_bytes", "minimize", "bytes", predicted=True),
        Objective("peak_inference_bytes", "minimize", "bytes", predicted=True),
        Objective("state_bytes_per_token", "minimize", "bytes", predicted=True),
        Objective("step_ms", "minimize", "ms", predicted=True),
        Objective("tokens_per_s", "maximize", "tokens/s", predicted=True),
        Objective("train_s", "minimize", "s", predicted=True),
    )
}
"""What is predicted of a design for the training's batch and the task's length (``search.prices`` says how)."""
JOULES = Objective("joules_per_sample", "minimize", "J")
"""What a trial's energy meters tell, where there are any: it is never predicted."""
TIMED = {
    one.name: one
    for one in (
        Objective("measured_step_ms", "minimize", "ms"),
        Objective("measured_tokens_per_s", "maximize", "tokens/s"),
        Objective("measured_latency_ms", "minimize", "ms"),
    )
}
"""What the clock tells of a trial's design once it has trained (``workflows.trial_times`` says how)."""
TIMED_AS = {
    "step_ms": "measured_step_ms",
    "tokens_per_s": "measured_tokens_per_s",
    "train_s": "measured_step_ms",
}
"""What is timed of what is predicted."""
AFTER = (JOULES.name, *TIMED)
"""What is only known once a training has ended, so that nothing is stopped by it."""
SAME = ("step_ms", "tokens_per_s", "train_s")
"""One figure said in three ways, since batch, length and steps are the same for all designs."""
SAME_TIMED = ("measured_step_ms", "measured_tokens_per_s")


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: a value of every objective, or why it has none; ``stopped``: it was not worth going on."""

    values: tuple[float, ...] = ()
    reason: str = ""
    stopped: bool = False


class Landscape(Protocol):
    """Designs, what they cost, and how good they are."""

    @property
    def name(self) -> str:
        """A name for people."""

    @property
    def fingerprint(self) -> str:
        """Changes with anything that makes values incomparable, and with nothing else."""

    @property
    def space(self) -> Space:
        """All designs."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The axes of the front, in the order of every trial's values."""

    @property
    def limits(self) -> dict[str, float]:
        """The most that objectives may be, or the least where large is good, by name."""

    @property
    def pool(self) -> int:
        """How many candidates may be priced for one trial: thousands of a formula, tens of a trace."""

    @property
    def instant(self) -> bool:
        """Whether a trial takes next to nothing, so that it is measured where it was asked for."""

    def repaired(self, codes_NP: Codes) -> Codes:
        """Return designs as rows that can be built, unchanged where they can; a row of -1 where none is near."""

    def prices(self, codes_NP: Codes) -> Array:
        """Return predicted objectives, (N, M); NaN where only a trial tells, a row of infinity where it cannot be."""

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Run one design."""

    def hand_designs(self) -> list[Design]:
        """Return what a person would begin with."""

    def architecture(self, design: Design) -> Architecture:
        """Return a design as an architecture."""

    def exact(self) -> tuple[Array, float] | None:
        """Return the worst values, signs turned, and the hypervolume of the true front where it is known."""


def signs(landscape: Landscape) -> Array:
    """Return the factors that make every objective one to be made small, (M)."""
    return np.array([objective.sign for objective in landscape.objectives])


def within(landscape: Landscape, values_NM: Array) -> NDArray[np.bool_]:
    """Return which rows of values meet all limits, (N); NaN meets them."""
    met = np.ones(len(values_NM), dtype=bool)
    for column, objective in enumerate(landscape.objectives):
        limit = landscape.limits.get(objective.name)
        if limit is not None:
            met &= ~(objective.sign * values_NM[:, column] > objective.sign * limit)
    return met


class ClosedFormLandscape:
    """The benchmark space of ``closed_form``: memory is priced, quality is only told by a trial."""

    pool = 1_200
    instant = True

    def __init__(
        self, form: ClosedForm, name: str = "closed-form", limits: dict[str, float] | None = None
    ) -> None:
        self.form = form
        self.name = name
        self.limits = dict(limits or {})
        self.objectives = (
            Objective("quality", "maximize", formula=True),
            Objective("peak_bytes", "minimize", "bytes", predicted=True),
        )

    @property
    def fingerprint(self) -> str:
        """The sizes of the space."""
        return repr(self.form)

    @property
    def space(self) -> Space:
        """Width, heads, and two choices a block."""
        return self.form.space

    def repaired(self, codes_NP: Codes) -> Codes:
        """Return designs as they are: all can be built."""
        return codes_NP

    def prices(self, codes_NP: Codes) -> Array:
        """Return peak bytes, and NaN for quality."""
        values = self.form.evaluate(codes_NP)
        values[:, 0] = np.nan
        return values

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Return both formulas' values."""
        quality, peak_bytes = self.form.evaluate(row_P[None])[0]
        return Outcome((float(quality), float(peak_bytes)))

    def hand_designs(self) -> list[Design]:
        """Return plain and mixed stacks."""
        return self.form.hand_designs()

    def architecture(self, design: Design) -> Architecture:
        """Return the stack of blocks; what is recomputed is a plan's decision and stands in the design alone."""
        nodes: list[dict[str, object]] = []
        for i in range(1, self.form.blocks + 1):
            mixer = str(design[f"mixer_{i}"])
            params = {"heads": design["heads"]} if mixer in ("attention", "mamba2") else {}
            nodes.append({"id": f"mixer_{i}", "use": mixer, "params": params})
            nodes.append({"id": f"swiglu_{i}", "use": "swiglu"})
        return Architecture.model_validate(
            {"name": self.name, "width": design["width"], "nodes": nodes}
        )

    def exact(self) -> tuple[Array, float] | None:
        """Return the worst of the space and the true front's hypervolume within the limits, of all designs.

        What a limit leaves of the front is the front of what the limit leaves: whatever beats a design keeps it too.
        """
        if not self.limits:
            return self.form.reference, self.form.hypervolume
        front = self.form.front[within(self, self.form.front)]
        return self.form.reference, hypervolume(front * signs(self), self.form.reference)

    def true_front(self) -> Array:
        """Return the exact front of the whole space, without limits: values of the objectives, (K, M)."""
        return self.form.front

    def unlimited(self) -> ClosedFormLandscape:
        """Return the same without limits."""
        return ClosedFormLandscape(self.form, self.name)


def empty_space(choices: Sequence[Choice]) -> list[Problem]:
    """Return what is wrong with choices as a space: nothing that varies, names twice, values twice."""
    problems = []
    if not any(len(choice.values) > 1 for choice in choices):
        problems.append(
            Problem("search", "nothing varies", "at least one choice of two values", "one design")
        )
    for choice in choices:
        if len(set(map(repr, choice.values))) < len(choice.values):
            problems.append(Problem(f"search.{choice.name}", "a value stands there twice"))
        if not choice.values:
            problems.append(Problem(f"search.{choice.name}", "has no values", "a list of values"))
    return problems


def designs_around(space: Space, own: Design) -> list[Design]:
    """Return a design, with each other component in each slot, and with the smallest and the largest of all numbers."""
    designs = [own]
    for choice in space.choices:
        if choice.group in ("use", *DECISIONS):
            designs += [{**own, choice.name: value} for value in choice.values]
    for end in (0, -1):
        ends = {c.name: c.values[end] for c in space.choices if c.ordered}
        designs.append({**own, **ends})
    return designs[:16]


def objectives_named(
    names: Sequence[str], metric: str, *, large: bool, predicted: Mapping[str, str]
) -> tuple[Objective, ...]:
    """Return the objectives of names: a metric that trials tell, large or small, and what is predicted, by unit.

    Raises:
        SpecError: a name is of nothing that is predicted or measured, or there is only one.
    """
    known = [metric, *predicted]
    problems = [
        Problem(
            f"objectives[{at}]", "is not an objective", "one of " + ", ".join(known), repr(name)
        )
        for at, name in enumerate(names)
        if name not in known
    ]
    if len(names) < 2:
        problems.append(Problem("objectives", "there is nothing to trade", "two to four"))
    if problems:
        raise SpecError(problems)
    return tuple(
        Objective(name, "minimize", predicted[name], predicted=True)
        if name in predicted
        else Objective(name, "maximize" if large else "minimize")
        for name in names
    )
