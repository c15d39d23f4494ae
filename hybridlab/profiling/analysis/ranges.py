"""Unions, intersections and lengths of time ranges, as arrays of starts and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.reading.trace import Floats, Mask


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges that do not overlap, in order of time."""

    starts: Floats
    ends: Floats

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self.starts)

    @property
    def total(self) -> float:
        """The time covered."""
        return float((self.ends - self.starts).sum())

    def within(self, start: float, end: float) -> float:
        """Return the time covered between two moments."""
        clipped = np.minimum(self.ends, end) - np.maximum(self.starts, start)
        return float(np.maximum(clipped, 0.0).sum())


def union(starts: Floats, ends: Floats) -> Ranges:
    """Merge ranges that overlap or touch."""
    if not len(starts):
        return Ranges(np.zeros(0), np.zeros(0))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    first = np.concatenate(([True], starts[1:] > ends[:-1]))
    begin = np.flatnonzero(first)
    last = np.concatenate((begin[1:] - 1, [len(starts) - 1]))
    return Ranges(starts[begin], ends[last])


def intersection(one: Ranges, other: Ranges) -> Ranges:
    """Return where both are."""
    if not len(one) or not len(other):
        return Ranges(np.zeros(0), np.zeros(0))
    edges = np.unique(np.concatenate((one.starts, one.ends, other.starts, other.ends)))
    both = covers(one, edges[:-1]) & covers(other, edges[:-1])
    return union(edges[:-1][both], edges[1:][both])


def covers(ranges: Ranges, moments: Floats) -> Mask:
    """Return, for each moment, whether a range holds it; a range holds its start and not its end."""
    started = np.searchsorted(ranges.starts, moments, side="right")
    ended = np.searchsorted(ranges.ends, moments, side="right")
    return np.asarray(started > ended)


def shares(roles: Sequence[Ranges], spans: Sequence[tuple[float, float]]) -> Floats:
    """Split each span among roles, where the first role that is there takes the time.

    Args:
        roles: ranges by role, the most important first.
        spans: starts and ends, in order, not overlapping.

    Returns:
        A row a span: the time of each role, and last what no role has.
    """
    moments: list[Floats] = [np.array(spans, dtype=np.float64).ravel()]
    moments += [edge for role in roles for edge in (role.starts, role.ends)]
    edges = np.unique(np.concatenate(moments))
    taken = np.full(max(0, len(edges) - 1), len(roles), dtype=np.int64)
    for at in range(len(roles) - 1, -1, -1):
        taken[covers(roles[at], edges[:-1])] = at
    lengths = np.diff(edges)
    result = np.zeros((len(spans), len(roles) + 1))
    for row, (start, end) in enumerate(spans):
        inside = slice(np.searchsorted(edges, start), np.searchsorted(edges, end))
        result[row] = np.bincount(taken[inside], weights=lengths[inside], minlength=len(roles) + 1)
    return result


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Return the mean of values weighted by time, or 0 where there is no time."""
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else 0.0
