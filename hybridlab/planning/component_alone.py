"""A component alone, on what it read in its place: a step of its own that can be timed and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hybridlab.components.base import Component
from hybridlab.planning.turns import kept_buffers
from hybridlab.trace.step import TrainingStep


class Alone(nn.Module):
    """A component on given inputs, which are leaves of their own, so that backward goes through all of it."""

    def __init__(self, component: Component) -> None:
        """Hold the component itself: what is changed in it in its place is changed here."""
        super().__init__()
        self.component = component

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the component on detached inputs."""
        learns = torch.is_grad_enabled()
        fresh = [x.detach().requires_grad_(learns and x.is_floating_point()) for x in inputs]
        output: Tensor = self.component(*fresh)
        return output


def alone(component: Component, inputs: tuple[Tensor, ...], step: TrainingStep) -> TrainingStep:
    """Return the step of a component alone, forward where the step it is taken from is, else backward too.

    Its outputs are weighed at random, the same each time, so that every gradient is asked for.
    """
    module = Alone(component).train(step.loss is not None)
    if step.loss is None:
        return TrainingStep(module, inputs, loss=None, around=step.around)
    weights: dict[tuple[int, ...], Tensor] = {}

    def loss(output: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if shape not in weights:
            generator = torch.Generator(output.device).manual_seed(0)
            weights[shape] = torch.randn(shape, generator=generator, device=output.device)
        return (output.float() * weights[shape]).sum()

    return TrainingStep(module, inputs, loss=loss, around=step.around)


def inputs_read(
    step: TrainingStep, components: Mapping[str, Component]
) -> dict[str, tuple[Tensor, ...]]:
    """Watch one pass without gradients; return what each component read first, by path, in running order."""
    read: dict[str, tuple[Tensor, ...]] = {}

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def given(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read.setdefault(path, tuple(x.detach() for x in inputs))

        return given

    hooks = [one.register_forward_pre_hook(watch(path)) for path, one in components.items()]
    try:
        with torch.no_grad(), step.around(), torch.random.fork_rng(), kept_buffers(step.model):
            step.model(*step.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return read
