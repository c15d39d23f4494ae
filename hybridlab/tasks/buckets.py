"""Batches of samples of like length: several are drawn together, sorted by length and cut anew.

Each is padded to its own longest sample, rounded up to one of a few lengths, so that the same shapes come again and
memory that was let go fits what is asked for next. It is the sorting within pools of
https://arxiv.org/abs/1706.05765, section 3; no sample is lost or seen twice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.base import Batch, Task, stream

MOST_SHAPES = 16
"""Lengths that batches may have, in even steps up to the longest: what is padded too much is less than one step."""


@dataclass(frozen=True)
class PaddedBatch(Batch):
    """Samples that end at ``ends`` (B) int64; what stands behind them is padding, which a model must not read."""

    ends: Tensor
    grain: int
    """Lengths are multiples of it, but for the longest."""

    @property
    def given(self) -> tuple[Tensor, ...]:
        """What a model is called with: the inputs, and where they end."""
        return self.inputs, self.ends

    def to(self, device: torch.device) -> PaddedBatch:
        """Return the batch on a device; the copy to an accelerator does not wait."""
        moved = super().to(device)
        ends = self.ends.to(device, non_blocking=True)
        return PaddedBatch(moved.inputs, moved.targets, ends, self.grain)

    def split(self, parts: int) -> list[Batch]:
        """Return the batch cut along its samples into at most ``parts`` pieces, each as long as it has to be."""
        rows = torch.arange(len(self.inputs), device=self.inputs.device).tensor_split(parts)
        return [self.chosen(some) for some in rows if len(some)]

    def chosen(self, rows: Tensor) -> PaddedBatch:
        """Return some of the samples (b), padded to the longest of them."""
        ends = self.ends[rows]
        length = -(-int(ends.max()) // self.grain) * self.grain
        inputs, targets = self.inputs[rows, :length], self.targets[rows]
        if targets.dim() > 1:
            targets = targets[:, :length].contiguous()
        return PaddedBatch(inputs.contiguous(), targets, ends, self.grain)


def bucketed(task: Task, count: int, steps: int) -> Task:
    """Return a task whose training batches are sorted by length over ``count`` steps at a time.

    A batch depends on (seed, step) alone, and in ``steps`` steps the samples are those that the task itself gives.
    Batches for evaluation are sorted too, and cut into ``count`` parts.

    Raises:
        SpecError: all samples of the task are of one length.
    """
    if task.ends(task.train_batch(0, 1, 0)) is None:
        raise SpecError(one_length(task))
    found, sorting = copy.copy(task), _Sorting(task, count, steps)
    found.train_batch = sorting.train_batch  # type: ignore[method-assign]
    found.evaluation = sorting.evaluation  # type: ignore[method-assign]
    return found


def one_length(task: Task) -> Problem:
    """Return the problem of a task whose samples need no padding."""
    return Problem(
        "buckets",
        f"has nothing to sort: all samples of {task.name} are {task.length:,} long",
        "0, or a task whose samples are of several lengths",
        fix="leave buckets out",
    )


def padded(task: Task, batch: Batch) -> PaddedBatch:
    """Return a task's batch with its samples' ends, as long as it is.

    Raises:
        SpecError: all samples of the task are of one length.
    """
    ends = task.ends(batch)
    if ends is None:
        raise SpecError(one_length(task))
    grain = -(-batch.inputs.shape[1] // MOST_SHAPES)
    return PaddedBatch(batch.inputs, batch.targets, ends, grain)


class _Sorting:
    """Sorts a task's batches by length; it keeps those of the steps that were sorted together last."""

    def __init__(self, task: Task, count: int, steps: int) -> None:
        self.task, self.count, self.steps = task, count, steps
        self._known: tuple[tuple[int, int, int], list[PaddedBatch]] | None = None

    def train_batch(self, step: int, batch: int, seed: int) -> PaddedBatch:
        first = step - step % self.count
        end = first + self.count
        if first < self.steps < end:  # the training ends in between
            first, end = (first, self.steps) if step < self.steps else (self.steps, end)
        asked = (first, batch, seed)
        if self._known is None or self._known[0] != asked:
            self._known = asked, self._sorted(first, end, batch, seed)
        return self._known[1][step - first]

    def evaluation(self, split: str) -> Iterator[Batch]:
        for batch in self.task.evaluation(split):
            whole = padded(self.task, batch)
            for rows in whole.ends.argsort(stable=True).tensor_split(self.count):
                if len(rows):
                    yield whole.chosen(rows)

    def _sorted(self, first: int, end: int, batch: int, seed: int) -> list[PaddedBatch]:
        """Return the batches of the steps from ``first`` to ``end``, in an order of chance: not short ones first.

        The last steps of a training are sorted among themselves, so that it sees what it would have seen.
        """
        drawn = [self.task.train_batch(step, batch, seed) for step in range(first, end)]
        inputs = torch.cat([one.inputs for one in drawn])
        whole = padded(self.task, Batch(inputs, torch.cat([one.targets for one in drawn])))
        by_length = whole.ends.argsort(stable=True)
        order = stream(self.task.name, "buckets", seed, first).permutation(len(drawn))
        return [whole.chosen(rows) for rows in by_length.view(len(drawn), batch)[order]]
