"""How far a step with other number formats is from the same step in float32, what it keeps, and what overflows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hybridlab.planning import turns
from hybridlab.planning.turns import Variant
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.step import Loss, TrainingStep
from hybridlab.training.memory import kept_bytes

ROOM = 4.0
"""A product in float16 that comes closer than this to its largest number overflows on another batch."""
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution")


@dataclass(frozen=True)
class Answer:
    """What a step gives: its loss, and its output forward or all its gradients in training, flat in float64."""

    loss: float
    values: Tensor


@dataclass(frozen=True)
class Errors:
    """How far an answer is from another, relative: of the loss, and of the norm of output or gradients."""

    loss: float
    values: float

    def or_else(self, least: Errors) -> Errors:
        """Return the larger of each and another's, where it is a number; that is how far something may be."""
        loss = self.loss if math.isfinite(self.loss) else 0.0
        values = self.values if math.isfinite(self.values) else 0.0
        return Errors(max(loss, least.loss), max(values, least.values))

    def within(self, other: Errors) -> bool:
        """Say whether neither is larger than another's; what is no number is not."""
        return self.loss <= other.loss and self.values <= other.values


def answer(step: TrainingStep, loss: Loss) -> Answer:
    """Run a step without its update, from one random state; weights and buffers stay as they are."""
    lost: list[float] = []

    def noted(output: Any) -> Tensor:
        total = loss(output)
        lost.append(float(total.detach()))
        return total

    model = step.model
    with torch.random.fork_rng(), turns.kept_buffers(model):
        torch.manual_seed(0)
        if step.loss is None:
            with torch.no_grad():
                with step.around():
                    output = model(*step.inputs)
                noted(output)
            return Answer(lost[-1], output.detach().double().flatten())
        found: list[Tensor] = []
        bare = TrainingStep(model, step.inputs, noted, around=step.around)
        bare.run(
            Attribution({}),
            after_backward=lambda: found.extend(
                p.grad.double().flatten() for p in step.parameters if p.grad is not None
            ),
        )
    return Answer(lost[0], torch.cat(found) if found else torch.zeros(0).double())


def in_float32(step: TrainingStep) -> TrainingStep:
    """Return the same step, all of it in float32."""
    return replace(step, around=contextlib.nullcontext)


def errors(exact: Answer, other: Answer) -> Errors:
    """Compare an answer with the exact one."""
    loss = abs(other.loss - exact.loss) / max(abs(exact.loss), 1e-30)
    return Errors(_number(loss), apart(exact.values, other.values))


def apart(exact: Tensor, other: Tensor) -> float:
    """Return the norm of the difference over that of the exact values; infinite where it is no number."""
    exact, other = exact.double(), other.double()
    distance = float(torch.linalg.vector_norm(other - exact))
    size = float(torch.linalg.vector_norm(exact))
    if not size:
        return math.inf if distance else 0.0
    return _number(distance / size)


def _number(value: float) -> float:
    return math.inf if math.isnan(value) else value


@contextlib.contextmanager
def turned_on(variant: Variant) -> Iterator[None]:
    """Run what is inside with a variant on."""
    variant.on()
    try:
        yield
    finally:
        variant.off()


@dataclass(frozen=True)
class Output:
    """What a component alone gives with a variant: its output, the bytes kept of it, and the largest product."""

    values: Tensor
    saved_bytes: int
    largest: float
    """In a 16-bit format, of matrix products and convolutions; infinite where one overflowed."""


def output_of(itself: TrainingStep) -> Output:
    """Run a component alone forward once, from one random state."""
    watched = _Largest()
    found: list[Tensor] = []

    def forward() -> None:
        found.append(itself.model(*itself.inputs).detach())

    kept = 0
    with torch.random.fork_rng(), turns.kept_buffers(itself.model), itself.around():
        torch.manual_seed(0)
        if itself.loss is None:
            with torch.no_grad(), watched:
                forward()
        else:
            with watched:
                kept = kept_bytes(forward, itself.model)
    return Output(found[-1], kept, watched.most)


def saved_bytes(step: TrainingStep, loss: Loss) -> int:
    """Return the bytes that a training step keeps for its backward, beside weights and the batch; 0 forward."""
    if step.loss is None:
        return 0

    def forward() -> None:
        with step.around():
            output = step.model(*step.inputs)
        loss(output)

    with torch.random.fork_rng(), turns.kept_buffers(step.model):
        torch.manual_seed(0)
        return kept_bytes(forward, step.model, *step.inputs)


def gradients_are_numbers(itself: TrainingStep) -> bool:
    """Say whether all gradients of a component alone are numbers; true forward, where there are none."""
    if itself.loss is None:
        return True
    return bool(answer(itself, itself.loss).values.isfinite().all())


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest value of products in 16-bit formats."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0.0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")  # type: ignore[attr-defined]
        low = isinstance(result, Tensor) and result.dtype in (torch.float16, torch.bfloat16)
        if low and name in _PRODUCTS and result.numel():
            self.most = max(self.most, _number(float(result.detach().abs().max())))
        return result
