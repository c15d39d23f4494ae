"""How much hypervolume a candidate is expected to add, where its prices are known and one value is foreseen.

The plane (or space) of the known values is cut into cells along the front's own coordinates. In a cell that a
candidate's prices reach, it adds the cell's size times what its unsure value falls below the best that the front has
there; the mean of that is the expected improvement of https://doi.org/10.1023/A:1008306431147 in closed form. The sum
over cells is exact as long as no axis has more than ``MOST_CUTS`` of them.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_CUTS = {1: 400, 2: 32, 3: 10}
"""Cells of an axis, by how many known values there are."""


def expected_gain(
    front_KM: Array,
    reference_M: Array,
    unsure: int,
    known_NM: Array,
    mean_N: Array,
    deviation_N: Array,
) -> Array:
    """Return the hypervolume that each candidate is expected to add, (N); all values are to be made small.

    ``unsure`` is the column that is foreseen with a mean and a standard deviation; the candidates' other columns in
    ``known_NM`` are exact. What is worse than the reference adds nothing.
    """
    columns = [column for column in range(front_KM.shape[1]) if column != unsure]
    if not columns:
        best = min(front_KM[:, unsure].min(initial=math.inf), reference_M[unsure])
        return _improvement(mean_N, deviation_N, np.array([best]))[:, 0]
    inside = front_KM[(front_KM < reference_M).all(axis=1)]
    edges = [
        _edges(inside[:, c], float(reference_M[c]), known_NM[:, c], len(columns)) for c in columns
    ]
    gains = np.zeros(len(known_NM))
    axes = [range(len(edge) - 1) for edge in edges]
    corners = np.array(
        [[e[i] for e, i in zip(edges, at, strict=True)] for at in itertools.product(*axes)]
    )
    ends = np.array(
        [[e[i + 1] for e, i in zip(edges, at, strict=True)] for at in itertools.product(*axes)]
    )
    levels = np.full(len(corners), float(reference_M[unsure]))
    for point in inside:
        reached = (point[columns] <= corners).all(axis=1)
        levels[reached] = np.minimum(levels[reached], point[unsure])
    # Many cells lie on one level: the improvement is worked out once for each.
    distinct, place = np.unique(levels, return_inverse=True)
    improvement = _improvement(mean_N, deviation_N, distinct)
    sizes = np.zeros((len(known_NM), len(distinct)))
    for cell in range(len(corners)):
        shares = np.ones(len(known_NM))
        for axis, column in enumerate(columns):
            begin = np.maximum(known_NM[:, column], corners[cell, axis])
            shares = shares * np.maximum(ends[cell, axis] - begin, 0)
        sizes[:, place[cell]] += shares
    gains += np.nan_to_num(sizes * improvement).sum(axis=1)
    return gains


def _edges(values: Array, reference: float, candidates: Array, axes: int) -> Array:
    """Return where an axis is cut: at the front's values, from the least of all to the reference."""
    finite = candidates[np.isfinite(candidates)]
    low = min(values.min(initial=reference), finite.min(initial=reference))
    cuts = np.unique(np.concatenate(([low], values, [reference])))
    if len(cuts) > MOST_CUTS.get(axes, 5) + 1:
        cuts = cuts[np.linspace(0, len(cuts) - 1, MOST_CUTS.get(axes, 5) + 1).round().astype(int)]
    return np.asarray(cuts, dtype=np.float64)


def _improvement(mean_N: Array, deviation_N: Array, levels_C: Array) -> Array:
    """Return the mean of max(0, level - value) for values ~ N(mean, deviation²), (N, C)."""
    gap = levels_C[None, :] - mean_N[:, None]
    spread = np.maximum(deviation_N, 1e-12)[:, None]
    z = gap / spread
    density = np.exp(-0.5 * np.minimum(z * z, 1_400)) / math.sqrt(2 * math.pi)
    return np.asarray(np.maximum(gap * _below(z) + spread * density, 0.0), dtype=np.float64)


def _below(z: Array) -> Array:
    """Return the share of a standard normal below z, to 7.5e-8 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = np.exp(-0.5 * np.minimum(z * z, 1_400)) / math.sqrt(2 * math.pi) * series
    return np.asarray(np.where(z >= 0, 1 - tail, tail), dtype=np.float64)
