"""How tasks' gradients stand to each other, by component: the metrics' names, and matrices read back from a run.

Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridlab.training.several_spec import OF_GRADIENTS, SeveralSpec

if TYPE_CHECKING:
    from hybridlab.training.spec import TrainSpec

LOSS, WEIGHT, COSINE = "task_loss/", "task_weight/", "gradient_cosine/"
WHOLE = "*"
"""The address of all weights that tasks share."""
MOST_PLACES = 2_000
"""Beyond so many cosines a measurement, repeats are told together only."""
MOST_TIMES, LEAST_STEPS = 40, 10
_SHARE = 0.05
"""The part of a training's time that measuring may take where balancing does not look at gradients itself."""
Curve = tuple[Sequence[int], Sequence[float | None]]


def loss_name(task: str) -> str:
    """Return the metric of a task's loss, in nats and without its weight."""
    return f"{LOSS}{task}"


def weight_name(task: str) -> str:
    """Return the metric of a task's weight: of its loss, or of its gradient at what tasks share."""
    return f"{WEIGHT}{task}"


def cosine_name(address: str, first: str, second: str) -> str:
    """Return the metric of the cosine between two tasks' gradients at a component, by its path or over repeats."""
    return f"{COSINE}{address}/{first}~{second}"


def interval(several: SeveralSpec, spec: TrainSpec, tasks: int) -> int:
    """Return the steps from one measurement of cosines to the next, 0 for never; a multiple of ``log_every``.

    A measurement is a forward and a backward for each task, (1 + 2 n) / 3 steps; they are as far apart as keeps this
    at a twentieth of the time. Balancing that looks at gradients anyhow has them for nothing.
    """
    if several.cosines_every == 0:
        return 0
    least = LEAST_STEPS
    if several.balancing not in OF_GRADIENTS:
        least = math.ceil((1 + 2 * tasks) / 3 / _SHARE)
    every = several.cosines_every or max(least, math.ceil(spec.steps / MOST_TIMES))
    return math.ceil(every / spec.log_every) * spec.log_every


@dataclass(frozen=True)
class Cosines:
    """Cosines of a run: by address, step and pair of tasks; ``tasks`` in the order of the settings."""

    tasks: tuple[str, ...]
    values: Mapping[str, Mapping[int, Mapping[tuple[str, str], float]]]

    def steps(self) -> list[int]:
        """Return the steps at which they were measured."""
        return sorted({step for one in self.values.values() for step in one})

    def matrix(self, address: str, step: int) -> tuple[tuple[float | None, ...], ...]:
        """Return the cosine of every pair of tasks at an address and a step, 1 on the diagonal, None where unknown."""
        found = self.values.get(address, {}).get(step, {})

        def at(one: str, other: str) -> float | None:
            if one == other:
                return 1.0
            return found.get((one, other), found.get((other, one)))

        return tuple(tuple(at(row, column) for column in self.tasks) for row in self.tasks)


def cosines_of(tasks: Sequence[str], curves: Mapping[str, Curve]) -> Cosines:
    """Read cosines from the curves of a run's metrics, by name; others are passed over."""
    values: dict[str, dict[int, dict[tuple[str, str], float]]] = {}
    for name, (steps, points) in curves.items():
        if not name.startswith(COSINE):
            continue
        address, _, pair = name.removeprefix(COSINE).rpartition("/")
        first, _, second = pair.partition("~")
        if first not in tasks or second not in tasks:
            continue
        for step, value in zip(steps, points, strict=True):
            if value is not None:
                values.setdefault(address, {}).setdefault(step, {})[first, second] = value
    return Cosines(tuple(tasks), values)


CONFLICT = -0.1
"""Tasks pull against each other where their cosine is below this in the mean over steps; single ones scatter more."""


def conflicts(found: Cosines) -> list[tuple[str, str, str, float]]:
    """Return (address, task, task, mean cosine over steps) of pairs that pull against each other, worst first."""
    worst = []
    for address, steps in found.values.items():
        pairs: dict[tuple[str, str], list[float]] = {}
        for one in steps.values():
            for pair, value in one.items():
                pairs.setdefault(pair, []).append(value)
        for pair, values in pairs.items():
            mean = math.fsum(values) / len(values)
            if mean < CONFLICT:
                worst.append((address, *pair, mean))
    return sorted(worst, key=lambda each: each[3])
