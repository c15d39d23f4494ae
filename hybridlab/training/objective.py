"""What a training makes small: the task's loss with what components ask for beside it, and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.tasks.base import Batch, Task
from hybridlab.training.precision import Numerics


def loss_of(
    model: nn.Module, task: Task, numerics: Numerics, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Return the task's loss on a batch, and that with the losses of experts and early exits added (scalars)."""
    with numerics.autocast():
        output = model(batch.inputs)
    loss = task.loss(output.float() if numerics.dtype else output, batch)
    total = loss
    auxiliary = getattr(model, "aux_loss", None)
    if auxiliary is not None and (asked := auxiliary()) is not None:
        total = loss + asked
    exits = getattr(model, "exits", None)
    for _, exit in exits() if exits is not None else ():
        scores = exit.logits.float() if numerics.dtype else exit.logits
        total = total + exit.weight * task.loss(scores, batch)
    return loss, total


def add_gradients(
    model: nn.Module,
    task: Task,
    numerics: Numerics,
    batch: Batch,
    parts: int = 1,
    scaler: torch.amp.GradScaler | None = None,
) -> Tensor:
    """Add the gradients of a batch, cut into parts one after the other; return the task's loss (scalar, detached)."""
    if parts == 1:
        return _of_part(model, task, numerics, batch.to(numerics.device), 1.0, scaler)
    pieces = batch.split(parts)
    answers = [int(piece.mask.sum()) for piece in pieces]
    total = max(1, sum(answers))
    losses = [
        _of_part(model, task, numerics, piece.to(numerics.device), count / total, scaler)
        for piece, count in zip(pieces, answers, strict=True)
    ]
    return torch.stack(losses).sum()


def _of_part(
    model: nn.Module,
    task: Task,
    numerics: Numerics,
    batch: Batch,
    share: float,
    scaler: torch.amp.GradScaler | None,
) -> Tensor:
    loss, total = loss_of(model, task, numerics, batch)
    if share != 1.0:
        total = total * share
    (scaler.scale(total) if scaler is not None else total).backward()  # type: ignore[no-untyped-call]
    return loss.detach() * share if share != 1.0 else loss.detach()
