"""What a study's trials say beyond their front: how it grew, which choices matter, and what is sure enough to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridlab.search.pareto import Array, hypervolume, non_dominated

_MOST_LOOKS = 48
_WINDOW_SHARE, _WINDOW_LEAST = 0.3, 20
_HARDLY = 0.005


class Coverage:
    """The hypervolume after so many trials; what was worked out is kept until a trial is worse than the reference."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._reference: Array | None = None
        self._known: dict[int, float] = {}
        self._front: tuple[int, Array] | None = None

    def trace(
        self, small_NM: Array, feasible_N: NDArray[np.bool_], reference_M: Array
    ) -> tuple[tuple[int, float], ...]:
        """Return pairs of a count and what the front of so many first points covers; at most some fifty of them.

        Only feasible points cover anything. Counts are multiples of a power of two, and all the points at last.
        """
        N = len(small_NM)
        if self._reference is None or not np.array_equal(self._reference, reference_M):
            self._reference, self._known, self._front = reference_M.copy(), {}, None
        step = 1
        while N / step > _MOST_LOOKS:
            step *= 2
        counts = [*range(step, N, step), N]
        front: Array | None = None
        begin = 0
        for count in counts:
            if count in self._known:
                continue
            if front is None:
                begin, front = 0, np.empty((0, small_NM.shape[1]))
                if self._front is not None and self._front[0] <= count:
                    begin, front = self._front
            new = small_NM[begin:count][feasible_N[begin:count]]
            both = np.vstack((front, new))
            front, begin = both[non_dominated(both)], count
            self._known[count] = hypervolume(front, reference_M) if len(front) else 0.0
            self._front = (count, front)
        return tuple((count, self._known[count]) for count in counts)


@dataclass(frozen=True)
class Growth:
    """What the last ``trials`` trials added to the front, as a share of what it covers now."""

    trials: int
    share: float

    @property
    def hardly(self) -> bool:
        """Whether that is so little that more trials will hardly pay."""
        return self.share < _HARDLY


def growth(trace: Sequence[tuple[int, float]]) -> Growth | None:
    """Return what the last third of the trials added; None before there are enough to say."""
    if not trace or trace[-1][1] <= 0:
        return None
    count, volume = trace[-1]
    window = max(_WINDOW_LEAST, round(_WINDOW_SHARE * count))
    before = [one for one in trace if one[0] <= count - window]
    if not before:
        return None
    then, covered = before[-1]
    return Growth(count - then, (volume - covered) / volume)


def importance(
    columns: Mapping[str, Sequence[object]], values_NM: Array
) -> dict[str, tuple[float, ...]]:
    """Return for each choice the share of each objective's spread that it explains alone, 0 to 1.

    It is epsilon squared (Kelley 1935, https://doi.org/10.1073/pnas.21.9.554) on ranks: the sum of squares between the
    values of a choice, less what as many groups would have by chance, over the whole. What choices do only together
    shows in none of them, and where a search looked at few values of a choice it can tell little of it.
    """
    N, M = values_NM.shape
    ranks = np.column_stack([_ranks(values_NM[:, column]) for column in range(M)])
    centred = ranks - ranks.mean(axis=0) if N else ranks
    total = (centred**2).sum(axis=0)
    shares: dict[str, tuple[float, ...]] = {}
    for name, taken in columns.items():
        kinds: dict[str, int] = {}
        groups = np.array([kinds.setdefault(repr(one), len(kinds)) for one in taken], dtype=np.intp)
        K = len(kinds)
        if K < 2 or N <= K:
            shares[name] = (0.0,) * M
            continue
        sizes = np.bincount(groups, minlength=K)
        found = []
        for column in range(M):
            sums = np.bincount(groups, weights=centred[:, column], minlength=K)
            between = float((sums**2 / sizes).sum())
            within = (total[column] - between) / (N - K)
            share = (between - (K - 1) * within) / total[column] if total[column] > 0 else 0.0
            found.append(float(min(max(share, 0.0), 1.0)))
        shares[name] = tuple(found)
    return shares


def standard_errors(
    designs: Sequence[Mapping[str, object]], values_N: Array
) -> tuple[Array, int] | None:
    """Return each trial's standard error of a value, (N), and from how many repeats; None where none was repeated.

    Trials of the same design tell how much a value varies from one to the next; the spread is pooled over all such
    designs. A design that was tried n times has the error of its mean, spread / sqrt(n).
    """
    places: dict[str, list[int]] = {}
    for at, design in enumerate(designs):
        places.setdefault(repr(sorted(design.items())), []).append(at)
    repeated = [group for group in places.values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    if not freedom:
        return None
    squares = sum(
        float(((values_N[group] - values_N[group].mean()) ** 2).sum()) for group in repeated
    )
    errors = np.empty(len(values_N))
    for group in places.values():
        errors[group] = np.sqrt(squares / freedom / len(group))
    return errors, freedom


def _ranks(values: Array) -> Array:
    """Return the places of values in their order, equal ones sharing the mean of theirs, (N)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
