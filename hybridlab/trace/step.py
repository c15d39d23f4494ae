"""One training step, in phases that can be recorded or measured: forward with its loss, backward, update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hybridlab.trace.attribution import LOSS, OPTIMISER, Attribution

Phase = Callable[[str], AbstractContextManager[object]]
Loss = Callable[[Any], Tensor]
BeforeUpdate = Callable[[Sequence[nn.Parameter]], object]


def casting(dtype: torch.dtype | None, kind: str = "cpu") -> AbstractContextManager[object]:
    """Return the context in which a forward runs on a kind of device: None is plain float32, else autocast to a type.

    Autocast's cache of weights is off: it would hold every cast until the forward ends, which is what a plan is there
    to avoid, and it adds up the gradients of a weight that is used again in the small type.
    """
    return (
        contextlib.nullcontext()
        if dtype is None
        else torch.autocast(kind, dtype, cache_enabled=False)
    )


def default_loss(output: Any) -> Tensor:
    """Return the mean square of every floating-point tensor in an output (scalar), where no loss is given.

    Raises:
        TypeError: there is none.
    """
    tensors = [t for t in tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
    if not tensors:
        raise TypeError("the output has no floating-point tensor to make a loss of; give a loss")
    return torch.stack([tensor.float().square().mean() for tensor in tensors]).sum()


def default_optimiser(model: nn.Module) -> torch.optim.Optimizer | None:
    """Return fused AdamW over what can be trained, or None where nothing can."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, fused=True) if trained else None


@dataclass
class TrainingStep:
    """A model, a batch, a loss and an optimiser; without a loss and an optimiser it is inference.

    ``before_update`` is given the trained weights between backward and update, to clip their gradients for example.
    """

    model: nn.Module
    inputs: tuple[Any, ...]
    loss: Loss | None = default_loss
    optimiser: torch.optim.Optimizer | None = None
    before_update: BeforeUpdate | None = None
    kept: Any = None
    """What else is in memory all the time, such as targets."""
    around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    """The context in which the model runs forward, such as autocast."""
    more: tuple[tuple[tuple[Any, ...], Loss], ...] = ()
    """Further parts of the batch, inputs and loss: one after the other, their gradients are added up."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def run(
        self,
        attribution: Attribution,
        phase: Phase = lambda name: contextlib.nullcontext(),
        after_backward: Callable[[], object] = lambda: None,
    ) -> None:
        """Run the step once, each phase in its context."""
        if self.loss is None:
            with phase("forward"), torch.no_grad(), self.around():
                self.model(*self.inputs)
            return
        for inputs, loss in ((self.inputs, self.loss), *self.more):
            self.add_gradients(inputs, loss, attribution, phase)
        after_backward()
        if self.optimiser is None:
            self.model.zero_grad(set_to_none=True)
            return
        with phase("optimiser"), attribution.within(OPTIMISER):
            if self.before_update is not None:
                self.before_update(self.parameters)
            self.optimiser.step()
            after_update = getattr(self.model, "after_update", None)
            if callable(after_update):
                after_update()
            self.optimiser.zero_grad(set_to_none=True)

    def add_gradients(
        self,
        inputs: tuple[Any, ...],
        loss: Loss,
        attribution: Attribution,
        phase: Phase = lambda name: contextlib.nullcontext(),
    ) -> None:
        """Run forward and backward of one part of the batch.

        Beside the loss of the output there are those that components ask for, and those of early exits.
        """
        with phase("forward"):
            with self.around():
                output = self.model(*inputs)
            with attribution.within(LOSS):
                total = loss(output)
                asked = getattr(self.model, "aux_loss", None)
                if callable(asked) and (extra := asked()) is not None:
                    total = total + extra
                exits = getattr(self.model, "exits", None)
                for _, exit in exits() if callable(exits) else ():
                    total = total + exit.weight * loss(exit.logits)
        with phase("backward"):
            total.backward()  # type: ignore[no-untyped-call]

    def prepare_state(self) -> None:
        """Make the optimiser's state as the first update would, from gradients of zero."""
        if self.optimiser is None:
            return
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
