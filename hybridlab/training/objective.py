"""What a training makes small: the task's loss with what components ask for beside it, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.tasks.base import Batch, Task
from hybridlab.training.evaluation import evaluate
from hybridlab.training.precision import Numerics


class Objective:
    """What a training makes small on each batch: here the task's loss, and those of experts and early exits.

    A way of training with a loss of its own (a teacher's, several tasks') is a subclass. What it learns beside the
    model (projections to a teacher's width, weights of tasks) is in ``own``: the loop optimises it at the run's rate
    without decay and keeps it in checkpoints, not among the model's weights.
    """

    own: nn.Module | None = None

    def __init__(self, model: nn.Module, task: Task, numerics: Numerics) -> None:
        """Make small what a model answers wrongly of a task; the loop may change ``task`` between steps."""
        self.model, self.task, self.numerics = model, task, numerics

    def loss_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the task's loss on a batch on the device, and all that is made small (scalars)."""
        with self.numerics.autocast():
            output = self.model(*batch.given)
        output = output.float() if self.numerics.dtype else output
        loss = self.task.loss(output, batch)
        asked = self.asked(batch)
        return loss, loss + asked if isinstance(asked, Tensor) else loss

    def asked(self, batch: Batch) -> Tensor | float:
        """Return what the components of the last forward ask for: balance of experts, losses of early exits."""
        total: Tensor | float = 0.0
        auxiliary = getattr(self.model, "aux_loss", None)
        if auxiliary is not None and (wanted := auxiliary()) is not None:
            total = wanted
        exits = getattr(self.model, "exits", None)
        for _, exit in exits() if exits is not None else ():
            scores = exit.logits.float() if self.numerics.dtype else exit.logits
            total = total + exit.weight * self.task.loss(scores, batch)
        return total

    def add_gradients(
        self, batch: Batch, parts: int = 1, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        """Add the gradients of a batch, cut into parts one after the other; return the task's loss (scalar, detached).

        ``batch`` is on the CPU; parts are weighted by the answers that they ask for.
        """
        if parts == 1:
            return self._of_part(batch.to(self.numerics.device), 1.0, scaler)
        pieces = batch.split(parts)
        answers = [int(piece.mask.sum()) for piece in pieces]
        total = max(1, sum(answers))
        losses = [
            self._of_part(piece.to(self.numerics.device), count / total, scaler)
            for piece, count in zip(pieces, answers, strict=True)
        ]
        return torch.stack(losses).sum()

    def scores(
        self,
        splits: Sequence[str],
        at_once: int,
        task: Task,
        before_each: Callable[[], object] = lambda: None,
    ) -> dict[str, float]:
        """Return a task's metrics of splits, at most ``at_once`` samples in memory together; see ``evaluate``."""
        return evaluate(self.model, task, splits, self.numerics, at_once, before_each)

    def foreseen(self, batch: Batch) -> Tensor:
        """Return the most that any step makes small of a batch on the device (scalar), to see what it keeps."""
        return self.loss_of(batch)[1]

    def bytes_beside(self, batch: Batch) -> int:
        """Return the bytes that a step takes for a while beside what it keeps for its gradients."""
        return 0

    def told(self) -> dict[str, float]:
        """Return what the last step has to tell beside its loss, as metrics."""
        return {}

    def begun(self, steps: int) -> int | None:
        """Return the place of what begins to be made small after so many steps; None where all stays as it was."""
        return None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the tensors of ``own``, as plain JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` returned."""

    def _of_part(self, batch: Batch, share: float, scaler: torch.amp.GradScaler | None) -> Tensor:
        loss, total = self.loss_of(batch)
        if share != 1.0:
            total = total * share
        (scaler.scale(total) if scaler is not None else total).backward()  # type: ignore[no-untyped-call]
        return loss.detach() * share if share != 1.0 else loss.detach()
