"""Pareto fronts as arrays: who is dominated, how much a front covers, and which of its points to take.

Everywhere points are (N, M), one row a design, and every one of the M values is to be made small; what is to be made
large comes in with its sign turned. Points that are worse than the reference in any value cover nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def non_dominated(points_NM: Array) -> NDArray[np.bool_]:
    """Return which points no other point beats, (N); of equal points the first counts, and NaN never does."""
    points = np.asarray(points_NM, dtype=np.float64)
    kept = np.zeros(len(points), dtype=bool)
    usable = np.flatnonzero(~np.isnan(points).any(axis=1))
    if not len(usable):
        return kept
    # Sorted by the first value, then by the others: whoever is beaten is beaten by one that came before.
    order = usable[np.lexsort((usable, *points[usable].T[::-1]))]
    if points.shape[1] == 2:
        second = points[order, 1]
        best_before = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
        kept[order[second < best_before]] = True
        return kept
    front = np.empty((0, points.shape[1]))
    for index in order:
        if not (front <= points[index]).all(axis=1).any():
            front = np.vstack((front, points[index]))
            kept[index] = True
    return kept


def hypervolume(points_NM: Array, reference_M: Array) -> float:
    """Return the volume between the points and the reference, exactly: a sweep for two values, slices for more.

    Time is N log N for two values and N² log N for three; each more is another N.
    """
    points = np.asarray(points_NM, dtype=np.float64)
    reference = np.asarray(reference_M, dtype=np.float64)
    points = points[(points < reference).all(axis=1)]
    points = points[non_dominated(points)]
    return _volume(points, reference) if len(points) else 0.0


def _volume(points: Array, reference: Array) -> float:
    """Return the hypervolume of points within the reference; dominated ones change nothing."""
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    if points.shape[1] == 2:
        order = np.lexsort((points[:, 1], points[:, 0]))
        first, second = points[order].T
        depth = np.minimum.accumulate(second)
        ends = np.append(first[1:], reference[0])
        return float(((ends - first) * (reference[1] - depth)).sum())
    order = np.argsort(points[:, -1], kind="stable")
    sorted_points = points[order]
    heights = np.append(sorted_points[1:, -1], reference[-1]) - sorted_points[:, -1]
    total = 0.0
    for index in np.flatnonzero(heights > 0):
        total += float(heights[index]) * _volume(sorted_points[: index + 1, :-1], reference[:-1])
    return total


def scaled(points_NM: Array) -> Array:
    """Return points with each value from 0, the best of them, to 1, the worst; 0 where all are alike."""
    low, high = points_NM.min(axis=0), points_NM.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return np.asarray((points_NM - low) / span, dtype=np.float64)


def knee(points_NM: Array) -> int:
    """Return the point that lies furthest beyond the line, or plane, through the front's ends.

    The values are brought to one scale first; for two of them this is the largest distance from the chord. Points that
    are dominated are never taken.

    Raises:
        ValueError: there are no points.
    """
    candidates = np.flatnonzero(non_dominated(points_NM))
    if not len(candidates):
        raise ValueError("there is no point to choose from")
    return int(candidates[scaled(points_NM[candidates]).sum(axis=1).argmin()])


def one_standard_error(points_NM: Array, errors_N: Array, metric: int, price: int) -> int:
    """Return the cheapest point whose metric is within one standard error of the best point's.

    ``metric`` and ``price`` are columns; the standard error is that of the best point (Breiman et al. 1984, section
    3.4.3; asked for in https://github.com/optuna/optuna/issues/2273). Of equal prices the better metric is taken.

    Raises:
        ValueError: there are no points.
    """
    if not len(points_NM):
        raise ValueError("there is no point to choose from")
    best = int(points_NM[:, metric].argmin())
    return cheapest_within(points_NM, float(errors_N[best]), metric, price)


def cheapest_within(points_NM: Array, slack: float, metric: int, price: int) -> int:
    """Return the cheapest point whose metric is worse than the best one's by at most ``slack``, in the metric's unit.

    ``metric`` and ``price`` are columns. Of equal prices the better metric is taken.

    Raises:
        ValueError: there are no points.
    """
    if not len(points_NM):
        raise ValueError("there is no point to choose from")
    near = np.flatnonzero(points_NM[:, metric] <= points_NM[:, metric].min() + slack)
    order = np.lexsort((points_NM[near, metric], points_NM[near, price]))
    return int(near[order[0]])


def best_within(points_NM: Array, wanted: int, limits: Mapping[int, float]) -> int | None:
    """Return the point that is best in column ``wanted`` among those within the limits; None where there is none."""
    fits = np.ones(len(points_NM), dtype=bool)
    for column, limit in limits.items():
        fits &= points_NM[:, column] <= limit
    candidates = np.flatnonzero(fits)
    if not len(candidates):
        return None
    return int(candidates[points_NM[candidates, wanted].argmin()])


def nearest_miss(points_NM: Array, limits: Mapping[int, float]) -> tuple[int, int]:
    """Return the point that misses the limits by least, and the column by which it misses most.

    A miss is measured as a share of the limit, or in the value's own unit where the limit is zero.

    Raises:
        ValueError: there are no points or no limits.
    """
    if not len(points_NM) or not limits:
        raise ValueError("there is nothing to compare")
    columns = list(limits)
    over = np.column_stack(
        [
            (points_NM[:, column] - limits[column]) / (abs(limits[column]) or 1.0)
            for column in columns
        ]
    )
    nearest = int(np.maximum(over, 0).max(axis=1).argmin())
    return nearest, columns[int(over[nearest].argmax())]
