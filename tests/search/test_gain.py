"""The expected gain against volumes of drawn values, and what the surrogate foresees against what is."""

from __future__ import annotations

import numpy as np
import pytest

from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.gain import expected_gain
from hybridlab.search.pareto import hypervolume
from hybridlab.search.surrogate import Surrogate


@pytest.mark.parametrize("M", [2, 3])
def test_the_gain_is_the_mean_over_what_may_come(M: int) -> None:
    rng = np.random.default_rng(M)
    front, reference = rng.random((6, M)), np.full(M, 1.1)
    candidates = rng.random((8, M))
    candidates[7, 1] = 1.3  # beyond the reference: nothing to gain
    mean, deviation = rng.random(8), rng.random(8) * 0.3
    found = expected_gain(front, reference, 0, candidates, mean, deviation)
    before = hypervolume(front, reference)
    draws = np.random.default_rng(0).standard_normal(400)
    for i, candidate in enumerate(candidates):
        gains = [
            hypervolume(
                np.vstack((front, [[mean[i] + deviation[i] * z, *candidate[1:]]])), reference
            )
            - before
            for z in draws
        ]
        assert found[i] == pytest.approx(np.mean(gains), abs=5 * np.std(gains) / 20 + 1e-6)


def test_without_doubt_the_gain_is_the_volume_itself() -> None:
    rng = np.random.default_rng(5)
    front, reference = rng.random((9, 2)), np.ones(2)
    candidates = rng.random((20, 2))
    gains = expected_gain(front, reference, 1, candidates, candidates[:, 1], np.zeros(20))
    exact = [
        hypervolume(np.vstack((front, [c])), reference) - hypervolume(front, reference)
        for c in candidates
    ]
    np.testing.assert_allclose(gains, exact, atol=1e-6)


def test_the_surrogate_foresees_and_knows_how_unsure_it_is() -> None:
    form = ClosedForm(blocks=6)
    rng = np.random.default_rng(1)
    codes = form.space.random(rng, 400)
    features, quality = form.space.features(codes), form.evaluate(codes)[:, 0]
    model = Surrogate.fit(features[:150], quality[:150])
    mean, deviation = model.predict(features[150:])
    wrong = np.abs(mean - quality[150:])
    assert np.sqrt((wrong**2).mean()) < 0.35 * quality.std()
    assert (
        0.5 < (wrong < deviation).mean() <= 1
    )  # about two thirds lie within one standard deviation
    _, seen = model.predict(features[:150])
    assert seen.mean() < deviation.mean()


def test_a_surrogate_of_one_trial_or_of_equal_values_stands() -> None:
    features = np.eye(4)
    for rows, values in ((1, [0.3]), (4, [0.5] * 4)):
        mean, deviation = Surrogate.fit(features[:rows], np.array(values)).predict(features)
        assert np.isfinite(mean).all() and (deviation > 0).all()
        assert mean[0] == pytest.approx(values[0], abs=0.2)
