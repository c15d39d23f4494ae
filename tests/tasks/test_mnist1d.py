"""MNIST-1D: the very samples that the paper's package makes, and splits that do not meet."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from hybridlab.tasks.mnist1d import _smoothing, dataset, splits, templates
from hybridlab.tasks.registry import task

# What `mnist1d.data.make_dataset(get_dataset_args())` of mnist1d 0.0.2.post1 gives, training before test.
FIRST = {
    0: (-0.3320056673693902, -0.4719103656557236, -0.778697076293495),
    1: (1.9654808817629648, 2.300212537472408, 2.213392782800504),
    4999: (-0.5193287078205185, -0.6987227646777667, -1.2810376906623184),
}
DIGITS = [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
MIDDLE = -128.2553106796255
"""Sum of the value at place 20 over all 5,000 series."""


def test_samples_are_those_of_the_papers_package() -> None:
    series, digits = dataset()
    assert series.shape == (5000, 40) and digits[:12].tolist() == DIGITS
    for index, values in FIRST.items():
        assert series[index, :3] == pytest.approx(values, abs=1e-12)
    assert series[:, 20].sum() == pytest.approx(MIDDLE, abs=1e-9)
    assert series.mean() == pytest.approx(0, abs=1e-12) and series.std() == pytest.approx(1)
    assert set(Counter(digits.tolist()).values()) == {500}


def test_noise_is_smoothed_as_scipy_does() -> None:
    noise = np.random.default_rng(0).normal(size=(5, 72))
    np.testing.assert_allclose(noise @ _smoothing(72).T, gaussian_filter1d(noise, 2), atol=1e-12)


def test_shapes_begin_at_zero_and_differ() -> None:
    shapes = templates()
    assert (shapes[:, 0] == 0).all() and np.allclose(shapes.std(1), 1 / 6)
    assert len({shape.tobytes() for shape in shapes}) == 10


def test_validation_is_taken_from_training_and_test_is_the_published_one() -> None:
    parts = splits()
    series, digits = dataset()
    assert {name: len(part[1]) for name, part in parts.items()} == {
        "train": 3600,
        "val": 400,
        "test": 1000,
    }
    assert parts["test"][1].tolist() == digits[4000:].tolist()
    np.testing.assert_allclose(parts["test"][0], series[4000:], atol=1e-6)
    rows = [{row.numpy().tobytes() for row in part[0]} for part in parts.values()]
    assert len(set.union(*rows)) == 5000


def test_baselines_are_those_of_a_loop() -> None:
    (series, digits), (tested, answers) = splits()["train"], splits()["test"]
    means = np.array([series[digits == digit].numpy().mean(0) for digit in range(10)])
    right = [
        int(np.square(means - row).sum(1).argmin()) == answer
        for row, answer in zip(tested.numpy(), answers.tolist(), strict=True)
    ]
    found = task("mnist1d").baselines()
    assert found["nearest class mean"] == pytest.approx(np.mean(right), abs=2e-3)
    assert found["nearest class mean"] > 2 * found["chance"]
