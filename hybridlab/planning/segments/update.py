"""The update of a step, traced on weights alone: what is there all the time, and what the update makes."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.planning.segments.record import Made
from hybridlab.planning.tracing import PackRecorder
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import Recipe
from hybridlab.trace.recorder import BUFFERS, GRADIENTS, STATE, WEIGHTS
from hybridlab.trace.step import TrainingStep


def skeleton(architecture: Architecture, inference: Inference, mode: FakeTensorMode) -> GraphModel:
    """Build a model whose weights are fake ones that nobody has filled; called in the fake mode."""
    known: dict[int, Tensor] = {}

    def faked(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            fake = FakeTensor(mode, tensor.detach(), torch.device("cpu"))
            if isinstance(tensor, nn.Parameter):
                fake._is_param = True
                fake.requires_grad_(tensor.requires_grad)
                for name, value in vars(tensor).items():
                    setattr(fake, name, value)
            known[id(tensor)] = fake
        return known[id(tensor)]

    with _disable_current_modes():
        with torch.device("meta"):
            model = GraphModel(architecture, inference, None)
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        held[name] = faked(tensor)  # type: ignore[assignment]
    return model


class Update:
    """The optimiser of a step in a steady state, with ``there_bytes`` of weights, buffers and its own state."""

    def __init__(self, model: GraphModel, recipe: Recipe) -> None:
        """Make the optimiser and its state."""
        self.model, self.recipe = model, recipe
        optimiser = recipe.optimiser(model)
        self.step = TrainingStep(model, (), None, optimiser, recipe.before_update)
        self.step.prepare_state()
        self.there: list[tuple[str, Tensor]] = [(WEIGHTS, weight) for weight in model.parameters()]
        self.there += [(BUFFERS, buffer) for buffer in model.buffers()]
        for state in optimiser.state.values() if optimiser is not None else ():
            self.there += [(STATE, one) for one in state.values() if isinstance(one, Tensor)]
        storages = {one.untyped_storage()._cdata: one.untyped_storage() for _, one in self.there}
        self.there_bytes = sum(storage.nbytes() for storage in storages.values())

    def made(self, learnt: Container[int]) -> tuple[Made, int]:
        """Return what an update makes where the weights with these ids have gradients, and other bytes it reads."""
        optimiser = self.step.optimiser
        empty = np.zeros(0, dtype=np.int64)
        if optimiser is None:
            return (empty, empty, empty, 0), 0
        recorder = PackRecorder(Attribution({}))
        for category, tensor in self.there:
            recorder.know(category, "", tensor)
        for weight in self.step.parameters:
            if id(weight) in learnt:
                weight.grad = torch.empty_like(weight)
                recorder.know(GRADIENTS, "", weight.grad)
        first, start = len(recorder.table["bytes"]), recorder.tick
        with recorder.attribution, recorder, recorder.phase("optimiser"):
            if self.step.before_update is not None:
                self.step.before_update(self.step.parameters)
            optimiser.step()
        sizes, born, died = (
            np.array(recorder.table[name][first:], dtype=np.int64)
            for name in ("bytes", "born", "died")
        )
        own = born > 0
        lives = sizes[own], born[own] - start, np.where(died < 0, -1, died - start)[own]
        optimiser.zero_grad(set_to_none=True)
        return (*lives, recorder.tick - start), int(sizes[~own].sum())
