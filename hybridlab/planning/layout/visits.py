"""Who reads what whom gave in one pass of a model, in running order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.planning import turns
from hybridlab.trace.step import TrainingStep


@dataclass(frozen=True)
class Visit:
    """One run of a component: what it reads, the path of the component that gave each, and whether it gives (B, L, D).

    ``sources`` has None for what no component gave, such as the sum behind a group.
    """

    slot: Slot
    inputs: tuple[Tensor, ...]
    sources: tuple[str | None, ...]
    gives_sequence: bool


def visits(step: TrainingStep) -> list[Visit]:
    """Watch one pass forward, without gradients; the model is left as it was."""
    model = step.model
    assert isinstance(model, GraphModel)
    found: list[Visit] = []
    giver: dict[
        int, tuple[str, Tensor]
    ] = {}  # the tensors are held, so that none gets the place of another

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def ran(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, Slot)
            sources = tuple(giver[id(x)][0] if id(x) in giver else None for x in inputs)
            found.append(Visit(module, inputs, sources, _is_sequence(output)))
            giver[id(output)] = path, output

        return ran

    hooks = [slot.register_forward_hook(watch(path)) for path, slot in model.slots()]
    try:
        with torch.no_grad(), step.around(), torch.random.fork_rng(), turns.kept_buffers(model):
            model(*step.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_sequence(x: Tensor) -> bool:
    """Say whether a tensor is (B, L, D) with something to turn."""
    return x.dim() == 3 and x.is_floating_point() and min(x.shape[1:]) > 1
