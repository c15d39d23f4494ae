"""Whether a training can sort its samples by length, and the task that does."""

from __future__ import annotations

from torch import nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.buckets import bucketed
from hybridlab.training.spec import TrainSpec


def sorted_task(model: nn.Module | None, task: Task, spec: TrainSpec) -> Task:
    """Return the task with batches sorted by length as the settings say; without a model only the task is checked.

    Raises:
        SpecError: all samples of the task are of one length, or the model cannot be told where they end.
    """
    if model is not None and not isinstance(model, GraphModel):
        raise SpecError(
            Problem(
                "buckets",
                "needs a model that can be told where samples end",
                "one that is built from an architecture",
                type(model).__name__,
                "leave buckets out",
            )
        )
    return bucketed(task, spec.buckets, spec.steps)
