"""Batches sorted by length: every sample is there once, in a batch of its like, whatever was asked for before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from hybridlab.errors import SpecError, TaskError
from hybridlab.tasks.base import IGNORED, Batch, Task
from hybridlab.tasks.buckets import MOST_SHAPES, PaddedBatch, bucketed, padded
from hybridlab.tasks.registry import task
from tests.tasks.conftest import WITH_SERIES

VARIED: dict[str, dict[str, Any]] = {
    "listops": {},
    "parity": {"length": 20, "min_length": 3},
    **({"time_series": {}, "vowels_length": {}, "vowels_duration": {}} if WITH_SERIES else {}),
}
everyone = pytest.mark.parametrize("name", VARIED)
STEPS, BATCH = 7, 6


def made(name: str) -> Task:
    return task(name, **VARIED[name])


def rows(what: Task, *batches: Batch) -> Counter[bytes]:
    """Count samples by their own positions and their answer."""
    found: Counter[bytes] = Counter()
    for batch in batches:
        ends = batch.ends if isinstance(batch, PaddedBatch) else what.ends(batch)
        assert ends is not None
        for x, y, end in zip(batch.inputs, batch.targets, ends.tolist(), strict=True):
            answer = y[:end] if y.dim() else y
            found[x[:end].contiguous().numpy().tobytes() + answer.numpy().tobytes()] += 1
    return found


@everyone
@pytest.mark.parametrize("count", [1, 3, 16])
def test_every_sample_is_seen_as_often_as_before(name: str, count: int) -> None:
    what = made(name)
    plain = [what.train_batch(step, BATCH, 5) for step in range(STEPS)]
    after = bucketed(what, count, STEPS)
    sorted_ = [after.train_batch(step, BATCH, 5) for step in range(STEPS)]
    assert all(len(batch.inputs) == BATCH for batch in sorted_)
    assert rows(what, *plain) == rows(what, *sorted_)
    lost = [what.ends(batch).amax() - what.ends(batch).amin() for batch in plain]  # type: ignore[union-attr]
    spread = [batch.ends.amax() - batch.ends.amin() for batch in sorted_]  # type: ignore[attr-defined]
    assert sum(spread) < sum(lost) or count == 1


@everyone
def test_a_batch_depends_on_seed_and_step_alone(name: str) -> None:
    wanted = [bucketed(made(name), 3, STEPS).train_batch(step, BATCH, 5) for step in range(STEPS)]
    once = bucketed(made(name), 3, STEPS)
    assert len(once.train_batch(STEPS, BATCH, 5).inputs) == BATCH, (
        "there are steps behind the last too"
    )
    for step in (6, 0, 5, 1, 4, 2, 3):
        found = once.train_batch(step, BATCH, 5)
        assert torch.equal(found.inputs, wanted[step].inputs)
        assert torch.equal(found.targets, wanted[step].targets)
    assert not torch.equal(once.train_batch(0, BATCH, 6).targets, wanted[0].targets)


@everyone
def test_batches_are_as_long_as_their_longest_in_even_steps(name: str) -> None:
    what = made(name)
    grain = -(-what.length // MOST_SHAPES)
    lengths = set()
    after = bucketed(what, 4, 8)
    for step in range(8):
        batch = after.train_batch(step, BATCH, 0)
        assert isinstance(batch, PaddedBatch)
        length, longest = batch.inputs.shape[1], int(batch.ends.max())
        assert longest <= length < longest + grain and (not length % grain or length == what.length)
        assert batch.targets.shape[1:] in ((), (length,))
        for piece in batch.split(3):
            assert isinstance(piece, PaddedBatch)
            assert piece.inputs.shape[1] < int(piece.ends.max()) + grain
        lengths.add(length)
    assert 1 < len(lengths) <= MOST_SHAPES


@everyone
def test_evaluation_asks_the_same(name: str) -> None:
    what = made(name)
    for split in (*what.val_splits, *what.test_splits):
        plain, after = list(what.evaluation(split)), list(bucketed(what, 4, 8).evaluation(split))
        assert rows(what, *plain) == rows(what, *after)
        assert sum(int(b.mask.sum()) for b in plain) == sum(int(b.mask.sum()) for b in after)


def test_parity_of_several_lengths_ends_in_zeros_that_are_not_asked() -> None:
    what = made("parity")
    batch = what.train_batch(0, 200, 0)
    ends = what.ends(batch)
    assert ends is not None and (int(ends.min()), int(ends.max())) == (3, 20)
    behind = torch.arange(20) >= ends[:, None]
    assert not batch.inputs[behind].any() and (batch.targets[behind] == IGNORED).all()
    assert torch.equal((batch.inputs.cumsum(1) % 2)[~behind], batch.targets[~behind])
    assert next(what.evaluation("test_96")).mask.all()
    with pytest.raises(TaskError, match="is over the length"):
        task("parity", length=4, min_length=5)


def test_one_length_has_nothing_to_sort() -> None:
    for what in (task("parity"), task("mqar")):
        with pytest.raises(SpecError, match="nothing to sort: all samples of"):
            bucketed(what, 4, 8)
        with pytest.raises(SpecError, match="nothing to sort"):
            padded(what, what.train_batch(0, 1, 0))
