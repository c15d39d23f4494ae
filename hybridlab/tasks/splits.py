"""Cuts labelled samples into splits that share no sample, each with every class. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
TEN = ("train", "train", "test", "train", "train", "val", "train", "train", "test", "train")
"""Seven tenths to train, one to choose, two to test."""


def same_samples(samples: NDArray[np.float32]) -> Integers:
    """Return for each sample (n, ...) the number of its group: samples that are equal are in one."""
    flat = np.ascontiguousarray(samples.reshape(len(samples), -1) + 0.0)  # -0.0 becomes 0.0
    if not flat.shape[1]:
        return np.zeros(len(samples), dtype=np.int64)
    rows = flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize))).ravel()
    _, group = np.unique(rows, return_inverse=True)
    return group.astype(np.int64)


def split_by_group(
    groups: Integers, labels: Integers, pattern: Sequence[str], seed: int
) -> dict[str, Integers]:
    """Return the samples of each split that ``pattern`` names: classes are shuffled, then dealt out by the pattern.

    A group stays together and counts as of its first sample's class. Every class has a group in the split that the
    pattern names first.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    _, first = np.unique(groups, return_index=True)
    label_of = labels[first]
    split_of = np.empty(len(first), dtype=object)
    dealt = 0
    for label in np.unique(label_of):
        members = rng.permutation(np.flatnonzero(label_of == label))
        split_of[members] = [pattern[(dealt + i) % len(pattern)] for i in range(len(members))]
        dealt += len(members)
        if pattern[0] not in split_of[members]:
            split_of[members[0]] = pattern[0]
    number = np.searchsorted(groups[first], groups)
    return {name: np.flatnonzero(split_of[number] == name) for name in dict.fromkeys(pattern)}
