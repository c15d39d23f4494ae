"""How well a stage is learnt, from the training batches themselves: loss and accuracy, averaged over a window."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hybridlab.tasks.base import Batch, Task
from hybridlab.training.stage_spec import Until


class Competence:
    """Averages of one stage; what a step costs is one number that is read from the device."""

    def __init__(self, until: Until | None) -> None:
        """Watch what a stage's end asks for; nothing where it asks for nothing."""
        self._until = until
        self._steps = 0
        self._loss = self._accuracy = 0.0
        self._right: list[Tensor] = []
        self._answers: list[Tensor] = []

    def watched(self, task: Task) -> Task:
        """Return the task, its answers counted as it computes losses where the stage's end asks for accuracy."""
        if self._until is None or self._until.train_accuracy is None:
            return task
        found, seen = copy.copy(task), [torch.zeros(0)]

        def loss(output: Tensor, batch: Batch) -> Tensor:
            if batch.targets is not seen[0]:  # early exits answer the same batch once more
                seen[0] = batch.targets
                self._right.append(task.score(output.detach(), batch))
                self._answers.append(batch.mask.sum())
            return task.loss(output, batch)

        found.loss = loss  # type: ignore[method-assign]
        return found

    def learned(self, loss: Tensor) -> None:
        """Take up one update by its loss (scalar), and by the answers that were counted."""
        until = self._until
        if until is None or not until.competence:
            return
        self._steps += 1
        weight = max(1 / until.window, 1 / self._steps)
        self._loss += weight * (float(loss) - self._loss)
        if self._answers:
            right, answers = float(sum(self._right)), float(sum(self._answers))
            self._accuracy += weight * (right / max(1.0, answers) - self._accuracy)
            self._right.clear()
            self._answers.clear()

    @property
    def reached(self) -> bool:
        """Whether all that is asked of training holds; also where nothing is."""
        until = self._until
        if until is None or not until.competence:
            return True
        enough = self._steps >= until.window
        good = until.train_loss is None or self._loss <= until.train_loss
        right = until.train_accuracy is None or self._accuracy >= until.train_accuracy
        return enough and good and right

    def told(self) -> dict[str, float]:
        """Return the averages by the names of metrics."""
        until = self._until
        if until is None or not self._steps:
            return {}
        found = {} if until.train_loss is None else {"stage_train_loss": self._loss}
        return found | (
            {} if until.train_accuracy is None else {"stage_train_accuracy": self._accuracy}
        )

    def state(self) -> dict[str, Any]:
        """Return the averages as plain JSON."""
        return {"steps": self._steps, "loss": self._loss, "accuracy": self._accuracy}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` returned."""
        self._steps = int(state["steps"])
        self._loss, self._accuracy = float(state["loss"]), float(state["accuracy"])
