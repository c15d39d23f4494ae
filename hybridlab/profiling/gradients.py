"""How large the gradient of each component's own weights is in one step, before it is clipped."""

from __future__ import annotations

import torch

from hybridlab.trace.attribution import Attribution, components_of
from hybridlab.trace.step import TrainingStep


def gradient_norms(step: TrainingStep) -> dict[str, float]:
    """Run a step once and return the norm of each component's gradient by path; empty where nothing is trained.

    A weight counts for the innermost component that holds it; those that got no gradient count as none.
    """
    owners: dict[int, str] = {}
    for path, module in components_of(step.model).items():  # outer ones first
        for weight in module.parameters():
            owners[id(weight)] = path
    squares: dict[str, torch.Tensor] = {}

    def look() -> None:
        for weight in step.parameters:
            if weight.grad is not None:
                square = weight.grad.detach().float().square().sum()
                path = owners[id(weight)]
                squares[path] = squares[path] + square if path in squares else square

    if step.loss is not None:
        step.run(Attribution({}), after_backward=look)
    return {path: float(square.sqrt()) for path, square in squares.items()}
