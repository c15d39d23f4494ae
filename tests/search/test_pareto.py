"""Fronts against their definitions: every pair compared, volumes counted cell by cell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hybridlab.search.pareto import (
    best_within,
    cheapest_within,
    hypervolume,
    knee,
    nearest_miss,
    non_dominated,
    one_standard_error,
)


def by_pairs(points: np.ndarray) -> list[int]:
    """Return who is beaten by nobody; of equal points the first."""
    kept = []
    for i, one in enumerate(points):
        if np.isnan(one).any():
            continue
        beaten = any(
            (other <= one).all() and ((other < one).any() or j < i)
            for j, other in enumerate(points)
            if j != i
        )
        if not beaten:
            kept.append(i)
    return kept


def by_cells(points: np.ndarray, reference: np.ndarray) -> float:
    """Count unit cells of whole numbers that some point covers."""
    axes = [range(int(r)) for r in reference]
    return float(
        sum(
            any((point <= cell).all() for point in points)
            for cell in map(np.array, itertools.product(*axes))
        )
    )


@pytest.mark.parametrize("M", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_fronts_are_what_pairs_say_and_volumes_what_cells_say(M: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 8, size=(25, M)).astype(float)  # ties and repeats on purpose
    points[3, 0] = np.nan
    assert np.flatnonzero(non_dominated(points)).tolist() == by_pairs(points)
    reference = np.full(M, 7.0)
    whole = points[~np.isnan(points).any(axis=1)]
    assert hypervolume(points, reference) == by_cells(whole, reference)


def test_volume_of_a_smooth_front_is_what_chance_says() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((60, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    thrown = rng.random((40_000, 3)) * 1.2
    covered = np.zeros(len(thrown), dtype=bool)
    for point in points:
        covered |= (thrown >= point).all(axis=1)
    expected, error = covered.mean() * 1.2**3, 1.2**3 * covered.std() / 200
    assert abs(hypervolume(points, np.full(3, 1.2)) - expected) < 4 * error


def test_beyond_the_reference_nothing_is_covered() -> None:
    assert hypervolume(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1.0])) == 0
    assert hypervolume(np.empty((0, 2)), np.array([1.0, 1.0])) == 0


def test_the_knee_is_furthest_from_the_chord() -> None:
    points = np.array([[0, 100], [1, 30], [2, 10], [5, 4], [10, 0], [9.0, 99]])
    a, b = np.array([0, 1.0]), np.array([1.0, 0])
    front = points[:5] / [10, 100]
    distances = [abs((b - a)[0] * (p - a)[1] - (b - a)[1] * (p - a)[0]) for p in front]
    assert knee(points) == int(np.argmax(distances)) == 2
    with pytest.raises(ValueError):
        knee(np.empty((0, 2)))


def test_the_cheapest_within_one_standard_error() -> None:
    points = np.array([[0.10, 90], [0.12, 50], [0.12, 40], [0.15, 10.0]])
    assert one_standard_error(points, np.array([0.02, 0.5, 0.5, 0.5]), metric=0, price=1) == 2
    assert one_standard_error(points, np.array([0.05, 0, 0, 0]), metric=0, price=1) == 3
    assert one_standard_error(points, np.array([0.0, 9, 9, 9]), metric=0, price=1) == 0


def test_the_cheapest_within_a_slack_is_found_as_by_looking_at_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.integers(0, 6, (rng.integers(1, 12), 3)).astype(float)
        slack = float(rng.integers(0, 4))
        best = min(row[1] for row in points)
        near = [at for at, row in enumerate(points) if row[1] <= best + slack]
        wanted = min(near, key=lambda at: (points[at][2], points[at][1], at))
        assert cheapest_within(points, slack, metric=1, price=2) == wanted
    with pytest.raises(ValueError, match="no point"):
        cheapest_within(np.empty((0, 2)), 1.0, 0, 1)


def test_budgets_are_answered_or_the_nearest_is_named() -> None:
    points = np.array([[0.1, 90, 3], [0.2, 50, 2], [0.4, 20, 9.0]])
    assert best_within(points, 0, {1: 60}) == 1
    assert best_within(points, 0, {1: 60, 2: 1}) is None
    assert nearest_miss(points, {1: 40, 2: 1.9}) == (1, 1)
    assert best_within(points, 0, {}) == 0
