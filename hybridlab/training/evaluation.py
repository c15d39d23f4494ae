"""Scores of a model on the splits of a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from hybridlab.architecture.answering import answering
from hybridlab.tasks.base import Task
from hybridlab.training.precision import Numerics


def evaluate(
    model: nn.Module,
    task: Task,
    splits: Sequence[str],
    numerics: Numerics,
    largest: int,
    before_each: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Return the metric of each split by its name, such as ``val_accuracy``; draws no random numbers.

    At most ``largest`` samples are in memory at once. The model is put into evaluation mode and back. Sums stay on the
    device until the split is through. ``before_each`` is called before each forward; what it raises ends the scoring.
    """
    metrics = {}
    with answering(model), torch.no_grad():
        for split in splits:
            sums, answers = [], 0
            for batch in task.evaluation(split):
                for piece in batch.split(math.ceil(len(batch.inputs) / largest)):
                    before_each()
                    answers += int(piece.mask.sum())
                    there = piece.to(numerics.device)
                    with numerics.autocast():
                        output = model(*there.given)
                    sums.append(task.score(output, there))
            total = torch.stack(sums).cpu().double().sum()
            metrics[task.metric_name(split)] = float(total) / max(1, answers)
    return metrics


def better(task: Task, value: float, than: float | None) -> bool:
    """Say whether a metric beats another one (None: there is none yet)."""
    return than is None or (value > than if task.higher_is_better else value < than)


def reached(task: Task, metrics: dict[str, float], target: float | None) -> bool:
    """Say whether every metric is at least as good as the target; never without a target."""
    if target is None or not metrics:
        return False
    good = (
        value >= target if task.higher_is_better else value <= target for value in metrics.values()
    )
    return all(good)
