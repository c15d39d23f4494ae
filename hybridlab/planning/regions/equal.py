"""Whether a region gives compiled what it gives as it is: outputs, gradients and buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridlab.planning import turns
from hybridlab.planning.regions.find import Alone
from hybridlab.planning.turns import TOLERANCE
from hybridlab.profiling.session import device_of
from hybridlab.trace.step import TrainingStep


def answers(lone: TrainingStep) -> list[Tensor]:
    """Return what a region gives: its output, and in training the gradients of inputs and of weights, and buffers."""
    module = lone.model
    assert isinstance(module, Alone)
    with torch.random.fork_rng(), turns.kept_buffers(module):
        torch.manual_seed(0)
        if lone.loss is None:
            with torch.no_grad(), lone.around():
                output: Tensor = module(*lone.inputs)
            gradients: list[Tensor] = []
        else:
            with lone.around():
                output = module(*lone.inputs)
            lone.loss(output).backward()  # type: ignore[no-untyped-call]
            gradients = [
                _joined([x.grad for x in module.fresh if x.grad is not None]),
                _joined([p.grad for p in module.parameters() if p.grad is not None]),
            ]
            module.zero_grad(set_to_none=True)
        buffers = [one.detach().clone() for one in module.buffers() if one.is_floating_point()]
        return [output.detach().clone(), *gradients, _joined(buffers)]


def _joined(some: Sequence[Tensor]) -> Tensor:
    return torch.cat([one.detach().double().flatten() for one in some]) if some else torch.empty(0)


def apart(plain: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return the largest difference, of outputs, gradients and buffers each against their own largest value."""
    pairs = list(zip(plain, other, strict=True))
    if any(one.shape != two.shape for one, two in pairs):
        return float("inf")
    return max(turns.gap(one.double(), two.double()) for one, two in pairs)


def allowed(step: TrainingStep) -> float:
    """Return the largest difference allowed: of the weights' number format, or of that in which they are computed."""
    limit, kind = turns.tolerance(step.model), device_of(step.model).type
    with step.around():
        if torch.is_autocast_enabled(kind):
            limit = max(limit, TOLERANCE.get(torch.get_autocast_dtype(kind), limit))
    return limit
