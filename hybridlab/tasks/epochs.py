"""Which samples a step sees where there is a fixed number of them: epoch by epoch, each in an order of its own."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hybridlab.tasks.base import stream


def epoch_indices(name: str, count: int, step: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Return the samples (batch,) of a step in the order of their epoch; a batch may reach into the next epoch.

    ``name`` keeps the orders of different data sets apart; ``count`` is how many samples there are.
    """
    first = step * batch
    index = np.empty(batch, dtype=np.int64)
    for epoch in range(first // count, (first + batch - 1) // count + 1):
        start, end = max(first, epoch * count), min(first + batch, (epoch + 1) * count)
        order = _order(name, count, seed, epoch)
        index[start - first : end - first] = order[start - epoch * count : end - epoch * count]
    return index


@functools.lru_cache(maxsize=8)
def _order(name: str, count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits ``count`` samples: a permutation derived from (seed, epoch)."""
    return stream(name, "order", seed, epoch).permutation(count)
