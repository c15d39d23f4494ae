"""A small model of what trials measured, that knows how unsure it is: a Gaussian process on one-hot features.

The covariance is a constant, a linear part (each choice adds its share) and a Gaussian part (what choices do together),
https://gaussianprocess.org/gpml/chapters/RW.pdf, chapter 2; length, shares and noise are those of a small table that
make the measured values likeliest (chapter 5).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LENGTHS = (0.7, 1.2, 2.0, 3.5)
LINEAR = (0.1, 0.5)
NOISE = (1e-4, 1e-2, 1e-1)
TUNED_ON = 120
"""Trials by which the table's row is chosen: more tell little more."""


@dataclass(frozen=True)
class Surrogate:
    """A fitted model; ``predict`` gives the mean and the standard deviation of what a trial would measure."""

    features: Array
    weights: Array
    inverse: Array
    length: float
    linear: float
    noise: float
    mean: float
    scale: float

    @classmethod
    def fit(cls, features_NF: Array, values_N: Array) -> Surrogate:
        """Fit measured values; one trial is enough, equal values give no uncertainty but that of the noise."""
        mean = float(values_N.mean())
        scale = float(values_N.std()) or 1.0
        y = (values_N - mean) / scale
        every = max(1, math.ceil(len(y) / TUNED_ON))
        length, linear, noise = _likeliest(features_NF[::every], y[::every])
        K = _covariance(features_NF, features_NF, length, linear)
        K[np.diag_indices_from(K)] += noise
        inverse = np.asarray(np.linalg.inv(K), dtype=np.float64)
        return cls(features_NF, inverse @ y, inverse, length, linear, noise, mean, scale)

    def predict(self, features_NF: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of each row, (N) and (N), without the noise of one measurement."""
        k = _covariance(features_NF, self.features, self.length, self.linear)
        own = _own_covariance(features_NF, self.linear)
        variance = own - np.einsum("nm,nm->n", k @ self.inverse, k)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return self.mean + self.scale * (k @ self.weights), self.scale * deviation


def _covariance(one: Array, other: Array, length: float, linear: float) -> Array:
    """Return the covariance of every row with every other, (N, K)."""
    dot = one @ other.T
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * dot
    near = np.exp(-np.maximum(squared, 0) / (2 * length**2 * math.sqrt(one.shape[1] / 8)))
    return np.asarray(1.0 + linear * dot + near, dtype=np.float64)


def _own_covariance(features: Array, linear: float) -> Array:
    return np.asarray(2.0 + linear * (features**2).sum(axis=1), dtype=np.float64)


def _likeliest(features: Array, y: Array) -> tuple[float, float, float]:
    """Return length, linear share and noise under which the values are likeliest."""
    best, chosen = -math.inf, (LENGTHS[1], LINEAR[0], NOISE[1])
    for length, linear in itertools.product(LENGTHS, LINEAR):
        K = _covariance(features, features, length, linear)
        for noise in NOISE:
            try:
                lower = np.linalg.cholesky(K + noise * np.eye(len(y)))
            except np.linalg.LinAlgError:
                continue
            z = np.linalg.solve(lower, y)
            # The overall size of the covariance is free: its likeliest value is the mean of z².
            likelihood = -len(y) / 2 * math.log(max(float(z @ z), 1e-300)) - float(
                np.log(np.diag(lower)).sum()
            )
            if likelihood > best:
                best, chosen = likelihood, (length, linear, noise)
    return chosen
