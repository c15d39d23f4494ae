"""Runs a form whose gradient is written by hand: one wrapper for all chunked forms of linear attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Parts = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class ByHand:
    """A form and its gradient.

    ``forward`` is given the inputs and returns the output and what ``backward`` needs. That is given the inputs and
    those in one tuple, which inputs want a gradient, and the output's gradient, and returns one for each input.
    """

    forward: Callable[..., tuple[Any, ...]]
    backward: Callable[[Parts, tuple[bool, ...], Tensor], Parts]

    def __call__(self, *given: Tensor) -> Tensor:
        """Compute the output (a compiler differentiates the parts itself)."""
        if torch.compiler.is_compiling():
            compiled: Tensor = self.forward(*given)[0]
            return compiled
        output: Tensor = _Wrapped.apply(self, *given)  # type: ignore[no-untyped-call]
        return output


class _Wrapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, form: ByHand, *given: Tensor) -> Tensor:
        ctx.form = form
        output: Tensor
        output, *kept = form.forward(*given)
        ctx.save_for_backward(*given, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Parts:
        with torch.autocast(grad.device.type, enabled=False):
            gradients = ctx.form.backward(ctx.saved_tensors, ctx.needs_input_grad[1:], grad)
        return None, *gradients
