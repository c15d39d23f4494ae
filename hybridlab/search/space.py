"""A space of designs: named choices among values, designs as rows of positions, and moves from one to another.

Arrays of designs are (N, P) integers: for each of P choices the position of the value that was taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

Value = str | int | float | bool | None
Design = dict[str, Value]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """One thing that may vary, and what it may be.

    Choices of one ``group`` mean the same at different places, as the mixers of a row of blocks do.
    """

    name: str
    values: tuple[Value, ...]
    group: str = ""

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers that grow, so that neighbours are alike."""
        numbers = [
            v for v in self.values if isinstance(v, (int, float)) and not isinstance(v, bool)
        ]
        return len(numbers) == len(self.values) and sorted(numbers) == numbers


@dataclass(frozen=True)
class Space:
    """All designs that the choices allow, valid or not."""

    choices: tuple[Choice, ...]

    @cached_property
    def sizes(self) -> Codes:
        """How many values each choice has, (P)."""
        return np.array([len(choice.values) for choice in self.choices], dtype=np.int64)

    @property
    def size(self) -> int:
        """How many designs there are."""
        return math.prod(len(choice.values) for choice in self.choices)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the choices of each group that has more than one; those of other values are another group."""
        places: dict[tuple[str, tuple[Value, ...]], list[int]] = {}
        for place, choice in enumerate(self.choices):
            if choice.group:
                places.setdefault((choice.group, choice.values), []).append(place)
        return tuple(tuple(group) for group in places.values() if len(group) > 1)

    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Return the space as Optuna knows it."""
        return {choice.name: CategoricalDistribution(choice.values) for choice in self.choices}

    def design(self, row_P: Codes) -> Design:
        """Return one row as names and values."""
        return {
            choice.name: choice.values[int(at)]
            for choice, at in zip(self.choices, row_P, strict=True)
        }

    def codes(self, designs: Sequence[Mapping[str, Value]]) -> Codes:
        """Return designs as rows.

        Raises:
            KeyError: a design leaves a choice out.
            ValueError: a design holds a value that is not in its choice.
        """
        rows = [
            [choice.values.index(one[choice.name]) for choice in self.choices] for one in designs
        ]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.choices))

    def random(self, rng: np.random.Generator, count: int) -> Codes:
        """Draw designs, each as likely as any other."""
        return rng.integers(0, self.sizes, size=(count, len(self.choices)))

    def everything(self) -> Codes:
        """Return all designs; for small spaces."""
        axes = np.indices(tuple(self.sizes)).reshape(len(self.choices), -1)
        return np.ascontiguousarray(axes.T, dtype=np.int64)

    def mutated(self, rng: np.random.Generator, parents_NP: Codes, mean_changes: float) -> Codes:
        """Change some choices of each row: numbers mostly by one step, others to any other value."""
        count, P = parents_NP.shape
        changes = rng.random((count, P)) < mean_changes / P
        forced = rng.integers(0, P, size=count)
        changes[np.arange(count), forced] = True
        free = rng.integers(0, np.maximum(self.sizes - 1, 1), size=(count, P))
        anything = free + (free >= parents_NP)  # any value but the one that is there
        step = np.where(rng.random((count, P)) < 0.5, -1, 1)
        stepped = parents_NP + step
        stepped = np.where((stepped < 0) | (stepped >= self.sizes), parents_NP - step, stepped)
        ordered = np.array([choice.ordered for choice in self.choices])
        by_step = ordered & (rng.random((count, P)) < 0.7)
        moved = np.where(by_step, stepped, anything)
        return np.where(changes & (self.sizes > 1), np.clip(moved, 0, self.sizes - 1), parents_NP)

    def crossed(self, rng: np.random.Generator, one_NP: Codes, other_NP: Codes) -> Codes:
        """Take each choice from one parent or the other; half of the rows are cut at one place instead."""
        count, P = one_NP.shape
        mixed = rng.random((count, P)) < 0.5
        cut = np.arange(P) < rng.integers(1, max(P, 2), size=(count, 1))
        taken = np.where(rng.random((count, 1)) < 0.5, mixed, cut)
        return np.where(taken, one_NP, other_NP)

    def rearranged(self, rng: np.random.Generator, parents_NP: Codes) -> Codes:
        """Swap two places of a group in each row, or copy one to the other; without groups nothing changes."""
        rows = parents_NP.copy()
        if not self.groups:
            return rows
        which = rng.integers(0, len(self.groups), size=len(rows))
        copies = rng.random(len(rows)) < 0.5
        for index, group in enumerate(self.groups):
            here = np.flatnonzero(which == index)
            first = np.array(group)[rng.integers(0, len(group), size=len(here))]
            second = np.array(group)[rng.integers(0, len(group), size=len(here))]
            kept = rows[here, second]
            rows[here, second] = rows[here, first]
            rows[here, first] = np.where(copies[here], rows[here, first], kept)
        return rows

    def features(self, codes_NP: Codes) -> NDArray[np.float64]:
        """Return designs as numbers for a model, (N, F): each value by itself, ordered ones by place, groups by count.

        A group's counts say how often each of its values was taken, whatever the place.
        """
        columns = []
        for place, choice in enumerate(self.choices):
            if choice.ordered:
                columns.append(codes_NP[:, [place]] / max(len(choice.values) - 1, 1))
            columns.append(np.eye(len(choice.values))[codes_NP[:, place]] / math.sqrt(2))
        for group in self.groups:
            values = self.choices[group[0]].values
            ones = np.eye(len(values))[codes_NP[:, list(group)]]
            columns.append(ones.sum(axis=1) * (2 / len(group)))
        return np.concatenate(columns, axis=1).astype(np.float64)
