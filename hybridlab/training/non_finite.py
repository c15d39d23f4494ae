"""Which component gave the first number that is not finite: the step is computed once more, and looked at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybridlab.errors import Problem, RunError
from hybridlab.tasks.base import Batch
from hybridlab.training.objective import Objective

Where = Literal["weights", "forward", "loss", "backward"]


class NotFiniteError(RunError):
    """A loss or a gradient is no number any more; ``step`` is the update that it was for."""

    def __init__(self, step: int, rate: float, loss: float, norm: float, kept: int | None) -> None:
        """Say of a step what became what, and which checkpoint is left."""
        self.step, self.rate, self.kept = step, rate, kept
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        name = "not a number" if math.isnan(value) else "infinite"
        self.happened = f"the {what} became {name}"
        super().__init__(self._problem(""))

    def found(self, place: Place | None) -> RunError:
        """Return the error with the component in it that began it."""
        return RunError(self._problem("" if place is None else f", {place.words()}"))

    def _problem(self, begun: str) -> Problem:
        kept = "there is no checkpoint"
        if self.kept is not None:
            kept = f"the last checkpoint is of step {self.kept}"
        return Problem(
            f"step {self.step}",
            f"{self.happened} at learning rate {self.rate:.3g}{begun}; {kept}",
            fix="lower learning_rate, lengthen warmup_steps, lower clip_norm, or allow rollbacks",
        )


@dataclass(frozen=True)
class Place:
    """Where the first number that is not finite came from; ``path`` is empty for the loss itself."""

    where: Where
    path: str

    def words(self) -> str:
        """Say it in half a sentence."""
        return {
            "weights": f"and weights of {self.path!r} are not finite",
            "forward": f"first in what {self.path!r} computes",
            "loss": "first in the loss itself: all components gave finite numbers",
            "backward": f"first in the gradient that {self.path!r} hands back",
        }[self.where]


def locate(model: nn.Module, objective: Objective, batch: Batch) -> Place | None:
    """Return where the first number came from that is not finite, for a batch on the device; None: not seen again.

    The forward and backward are computed once more with the weights as they are; gradients are lost. A model that does
    not name its components is not looked into.
    """
    slots = getattr(model, "slots", None)
    bodies = {path: slot.body for path, slot in slots()} if slots is not None else {}
    for path, body in bodies.items():
        if not all(_finite(one) for one in (*body.parameters(), *body.buffers())):
            return Place("weights", path)
    model.zero_grad(set_to_none=True)
    seen = _Seen()
    with seen.looking(bodies):
        loss, total = objective.loss_of(batch)
        if seen.first:
            return Place("forward", seen.first)
        if not (_finite(loss) and _finite(total)):
            return Place("loss", "")
        total.backward()  # type: ignore[no-untyped-call]
    for path, handed, back in seen.backward:
        own = [one.grad for one in bodies[path].parameters() if one.grad is not None]
        if handed and not (back and all(map(_finite, own))):
            return Place("backward", path)
    return None


class _Seen:
    """What was finite in one forward and backward."""

    def __init__(self) -> None:
        self.first = ""
        """The first component in running order with a result that is not finite."""
        self.backward: list[tuple[str, bool, bool]] = []
        """In backward order: component, whether the gradients it was handed are finite, and those it hands back."""

    @contextmanager
    def looking(self, bodies: dict[str, nn.Module]) -> Iterator[None]:
        handles = [body.register_forward_hook(self._look(path)) for path, body in bodies.items()]
        handles += [
            body.register_full_backward_hook(self._handed(path)) for path, body in bodies.items()
        ]
        try:
            with (
                warnings.catch_warnings()
            ):  # inputs of an embedding have no gradient, and that is right
                warnings.filterwarnings("ignore", "Full backward hook is firing")
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _look(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(body: nn.Module, inputs: Any, output: Any) -> None:
            if not self.first and not _all_finite((output,)) and _all_finite(inputs):
                self.first = path

        return look

    def _handed(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def handed(body: nn.Module, back: Any, given: Any) -> None:
            self.backward.append((path, _all_finite(given), _all_finite(back)))

        return handed


def _all_finite(tensors: Any) -> bool:
    return all(_finite(one) for one in tensors if isinstance(one, Tensor))


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
