"""What early exits are worth: how good each one is, how many leave there, and the work that is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridlab.architecture.answering import answering
from hybridlab.architecture.exits import chosen
from hybridlab.architecture.model import GraphModel
from hybridlab.tasks.base import Task
from hybridlab.trace.predict import predict


@dataclass(frozen=True)
class ExitScore:
    """One way to end: an exit, or the last node."""

    path: str
    value: float
    """The task's metric on these scores for all samples, whether they leave here or not (measured)."""
    share: float
    """Share of the samples that end here (measured)."""
    flops: float
    """FLOPs of one sample that ends here (predicted)."""


@dataclass(frozen=True)
class ExitScores:
    """All ways to end, in running order, and the model as a whole."""

    ways: tuple[ExitScore, ...]
    value: float
    """The task's metric where every sample ends at its first exit that is sure (measured)."""
    flops: float
    """Mean FLOPs of a sample (predicted, by the measured shares)."""


@torch.no_grad()
def score_exits(model: GraphModel, task: Task, split: str, device: torch.device) -> ExitScores:
    """Score every exit of a model on a split; all of them are computed for every sample.

    An exit in a tied group counts once for each time that it runs.
    """
    leaving, model.leaving = model.leaving, False
    sums: list[Tensor] = []
    ended: list[Tensor] = []
    paths: list[str] = []
    answers = samples = 0
    try:
        with answering(model):
            for batch in task.evaluation(split):
                there = batch.to(device)
                last = model(there.inputs)
                exits = model.exits()
                paths = [path for path, _ in exits]
                scores = [*(exit.logits for _, exit in exits), last]
                scores.append(chosen(last, [exit for _, exit in exits]))
                sums.append(torch.stack([task.score(one, there) for one in scores]).double())
                sure = [exit.sure for _, exit in exits] + [
                    torch.ones(len(last), device=device).bool()
                ]
                first = torch.stack(sure).float().argmax(0)  # the first of the largest
                ended.append(first.bincount(minlength=len(sure)))
                answers += int(there.mask.sum())
                samples += len(last)
    finally:
        model.leaving = leaving
    values = (torch.stack(sums).sum(0) / max(1, answers)).tolist()
    shares = (torch.stack(ended).sum(0) / max(1, samples)).tolist()
    flops = _flops(model, task, len(paths))
    names = [*paths, model.architecture.nodes[-1].id]
    ways = tuple(ExitScore(*one) for one in zip(names, values[:-1], shares, flops, strict=True))
    mean = math.fsum(way.share * way.flops for way in ways)
    return ExitScores(ways, values[-1], mean)


def _flops(model: GraphModel, task: Task, count: int) -> list[float]:
    """Return the predicted FLOPs of one sample up to each exit, and of one that runs to the end."""
    found = predict(model.architecture, task.input_type(), batch=1, length=task.length)
    costs = {cost.path: cost.flops for cost in found.components}
    done, ends = 0.0, []
    for slot in model.root.in_running_order():
        done += costs[slot.path]
        if slot.body.exit_shape(slot.body.params, slot.body.context) is not None:
            ends.append(done)
    assert len(ends) == count
    return [*ends, done]
