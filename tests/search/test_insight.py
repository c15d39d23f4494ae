"""What trials say beyond their front, each judged by a plain computation."""

from __future__ import annotations

import numpy as np
import pytest

from hybridlab.search.insight import Coverage, growth, importance, standard_errors
from hybridlab.search.pareto import hypervolume


@pytest.mark.parametrize("columns", [2, 3])
def test_coverage_is_what_the_first_points_cover(columns: int) -> None:
    rng = np.random.default_rng(columns)
    points = rng.random((150, columns))
    feasible = rng.random(150) < 0.8
    reference = points.max(axis=0)
    coverage = Coverage()
    for count in (7, 60, 61, 150):  # as a study grows, with what was worked out kept
        trace = coverage.trace(points[:count], feasible[:count], reference)
        assert trace[-1][0] == count and len(trace) <= 50
        for upto, volume in trace:
            whole = hypervolume(points[:upto][feasible[:upto]], reference)
            assert volume == pytest.approx(whole, rel=1e-12)


def test_coverage_forgets_when_the_reference_moves() -> None:
    coverage = Coverage()
    points, feasible = np.array([[0.5, 0.5], [0.2, 0.9]]), np.array([True, True])
    first = coverage.trace(points, feasible, np.array([1.0, 1.0]))
    second = coverage.trace(points, feasible, np.array([2.0, 2.0]))
    assert first[-1][1] == pytest.approx(0.25 + 0.3 * 0.1)
    assert second[-1][1] == pytest.approx(1.5 * 1.5 + 0.3 * 1.1)


def test_growth_says_when_a_search_has_stopped_paying() -> None:
    rising = tuple((count, float(count)) for count in range(1, 101))
    assert growth(rising[:10]) is None, "too few trials to say"
    told = growth(rising)
    assert told is not None and told.trials == 30 and told.share == pytest.approx(0.3)
    assert not told.hardly
    flat = tuple((count, min(1.0, count / 20)) for count in range(1, 101))
    told = growth(flat)
    assert told is not None and told.hardly


def test_importance_is_epsilon_squared_on_ranks() -> None:
    rng = np.random.default_rng(0)
    N = 240
    decides, noise = rng.integers(0, 3, N), rng.integers(0, 4, N)
    values = np.column_stack([decides + 0.1 * rng.standard_normal(N), rng.standard_normal(N)])
    found = importance(
        {"decides": decides.tolist(), "noise": noise.tolist(), "one": [1] * N}, values
    )
    assert found["decides"][0] > 0.8
    assert found["noise"][0] < 0.03 and found["decides"][1] < 0.03
    assert found["one"] == (0.0, 0.0)
    # By the definition, with sums of squares written out.
    ranks = values[:, 0].argsort().argsort().astype(float)
    groups = [ranks[decides == k] for k in range(3)]
    total = ((ranks - ranks.mean()) ** 2).sum()
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    expected = (total - within - 2 * within / (N - 3)) / total
    assert found["decides"][0] == pytest.approx(expected)


def test_standard_errors_come_from_repeats_only() -> None:
    designs = [{"a": 1}, {"a": 2}, {"a": 1}, {"a": 3}]
    assert standard_errors(designs[1:], np.array([1.0, 2.0, 3.0])) is None
    told = standard_errors(designs, np.array([1.0, 5.0, 3.0, 4.0]))
    assert told is not None
    errors, repeats = told
    spread = np.std([1.0, 3.0], ddof=1)
    assert repeats == 1
    assert errors == pytest.approx([spread / 2**0.5, spread, spread / 2**0.5, spread])
