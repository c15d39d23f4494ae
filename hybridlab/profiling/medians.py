"""Medians with intervals that assume nothing about how times are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Median:
    """The median of ``n`` values with an interval that holds the true one with ``confidence``.

    The ends are order statistics (https://doi.org/10.2307/2280087); of few values these are the smallest and largest.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float


def median(values: Sequence[float], confidence: float = 0.95) -> Median:
    """Return the median of at least one value with its interval.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a median needs at least one value")
    ordered, n = sorted(values), len(values)
    covered, reach = _covered(n, 0), 0
    while reach + 1 < n / 2 and _covered(n, reach + 1) >= confidence:
        reach += 1
        covered = _covered(n, reach)
    return Median(statistics.median(ordered), ordered[reach], ordered[n - 1 - reach], n, covered)


def _covered(n: int, cut: int) -> float:
    """Return how likely the true median lies between the values that are left when ``cut`` are cut at each end."""
    return 1.0 - 2.0 * math.fsum(math.comb(n, k) for k in range(cut + 1)) / 2.0**n
