"""The exact prediction: the whole step once on fake tensors, each storage followed from its making to its end.

What autograd keeps, frees and adds up is what really happens, because it is autograd that runs. The step takes no
memory and computes nothing, but for kernels that allocate for themselves: each such call runs once alone, on zeros of
its shapes, to learn how much (``kernel_memory``). The peak is then that of the real step.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.fake_run import fake_inputs
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import BuildContext
from hybridlab.components.types import TensorType
from hybridlab.errors import SpecError
from hybridlab.trace.attribution import Attribution, components_of
from hybridlab.trace.named_device import fake_device
from hybridlab.trace.recorder import StepRecorder
from hybridlab.trace.step import (
    BeforeUpdate,
    TrainingStep,
    casting,
    default_loss,
    default_optimiser,
)
from hybridlab.trace.stream import OpStream

MakeOptimiser = Callable[[nn.Module], torch.optim.Optimizer | None]


@dataclass(frozen=True)
class Recipe:
    """How a step trains: what makes its loss and its optimiser, and what is done to gradients before the update.

    ``loss`` is given the output and the targets. ``target`` is the targets' shape after the batch, for example
    ``("L",)``; None where the loss reads none; ``answers`` is their type. ``cast`` is the type of autocast, None
    without it; ``parts`` are those of a batch whose gradients are added up, cut as ``pieces`` cuts.
    """

    loss: Callable[[Any, Any], Tensor] = lambda output, targets: default_loss(output)
    target: tuple[int, ...] | None = None
    optimiser: MakeOptimiser = default_optimiser
    before_update: BeforeUpdate | None = None
    cast: torch.dtype | None = None
    parts: int = 1
    answers: torch.dtype = torch.int64


def predict_stream(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    batch: int = 8,
    length: int = 64,
    recipe: Recipe | None = None,
    training: bool = True,
    arrange: Callable[[nn.Module], object] | None = None,
    device: str = "cpu",
) -> OpStream:
    """Predict one step of an architecture operator by operator, in a steady state (the optimiser has its moments).

    ``arrange`` is given the model before it runs, to apply a plan to it for example. Of a ``device`` that is not here
    the stream is what a CPU would do, with a note that says so (``named_device``).

    Raises:
        SpecError: the architecture has errors; it holds all of them.
        DeviceError: there is no such kind of device.
    """
    inference = infer(architecture, input_type)
    if inference.errors:
        raise SpecError(inference.errors)
    where, told = fake_device(device)

    def make() -> TrainingStep:
        step = fake_step(
            architecture,
            inference,
            batch=batch,
            length=length,
            recipe=recipe or Recipe(),
            training=training,
        )
        if arrange is not None:
            arrange(step.model)
        return step

    notes = (*([told] if told else []), *_expectations(inference))
    return trace_fake(make, notes, where)


def fake_step(
    architecture: Architecture,
    inference: Inference,
    *,
    batch: int,
    length: int,
    recipe: Recipe,
    training: bool = True,
) -> TrainingStep:
    """Build the step of an architecture without errors on inputs of zeros; called among fake tensors."""
    model = GraphModel(architecture, inference, None)
    context = BuildContext((inference.input,), architecture.width)
    inputs = tuple(fake_inputs(context, batch, length))
    if not training:
        return TrainingStep(model.eval(), inputs, loss=None)
    shape = recipe.target
    targets = None if shape is None else torch.zeros((batch, *shape), dtype=recipe.answers)
    cut = [pieces(tensor, recipe.parts) for tensor in inputs]
    wanted = pieces(targets, recipe.parts)
    parts = [
        (given, functools.partial(part_loss, recipe, wanted[place], len(cut[0])))
        for place, given in enumerate(zip(*cut, strict=True))
    ]
    (first, loss), *more = parts
    return TrainingStep(
        model,
        first,
        loss,
        recipe.optimiser(model),
        recipe.before_update,
        kept=targets,
        around=functools.partial(casting, recipe.cast, inputs[0].device.type),
        more=tuple(more),
    )


def pieces(tensor: Any, parts: int) -> list[Any]:
    """Return the parts of a batch as ``Batch.split`` cuts it, the largest first; of None each is None."""
    if tensor is None:
        return [None] * parts
    return [piece for piece in tensor.tensor_split(parts) if len(piece)] if parts > 1 else [tensor]


def part_loss(recipe: Recipe, targets: Any, parts: int, output: Any) -> Tensor:
    """Return the loss of one of so many parts of a batch (scalar): its share of the whole batch's."""
    loss = recipe.loss(output, targets)
    return loss / parts if parts > 1 else loss


def predict_module(
    module: nn.Module,
    inputs: tuple[Any, ...],
    *,
    loss: Callable[[Any], Tensor] | None = default_loss,
    optimiser: MakeOptimiser = default_optimiser,
) -> OpStream:
    """Predict one step of any module on inputs like these, without running it or touching its weights.

    Raises:
        RuntimeError: its forward asks for values, which fake tensors do not have.
    """

    def make() -> TrainingStep:
        mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
        known: dict[int, Any] = {}
        for parameter in module.parameters():
            known[id(parameter)] = nn.Parameter(
                torch.empty_like(mode.from_tensor(parameter.detach())), parameter.requires_grad
            )
        for buffer in module.buffers():
            known[id(buffer)] = mode.from_tensor(buffer.detach())
        model = copy.deepcopy(module, known)
        fake = tree_map(lambda x: mode.from_tensor(x) if isinstance(x, Tensor) else x, inputs)
        made = optimiser(model) if loss is not None else None
        return TrainingStep(model, fake, loss, made)

    return trace_fake(make)


def trace_fake(
    make: Callable[[], TrainingStep],
    notes: tuple[str, ...] = (),
    device: torch.device | None = None,
) -> OpStream:
    """Run the step that ``make`` builds once on fake tensors and return its stream; ``make`` is called among them.

    What is made without saying where lies on ``device``.
    """
    where = nullcontext() if device is None or device.type == "cpu" else device
    with QuickFakeMode(allow_non_fake_inputs=True), warnings.catch_warnings(), where:
        warnings.simplefilter("ignore")
        step = make()
        step.prepare_state()
        return record(step, "predicted", notes)


def record(
    step: TrainingStep,
    source: Any,
    notes: tuple[str, ...] = (),
    recorder: StepRecorder | None = None,
) -> OpStream:
    """Run a step once, on whatever tensors it has, and return what happened.

    A ``recorder`` brings an attribution of its own; without one, work is told apart by component.
    """
    attribution = (
        Attribution(components_of(step.model)) if recorder is None else recorder.attribution
    )
    with attribution:
        recorder = recorder or StepRecorder(attribution)
        recorder.know_model(step.model, step.optimiser, (step.inputs, step.kept))
        with recorder:
            step.run(
                attribution,
                recorder.phase,
                lambda: recorder.note_gradients(step.parameters),
            )
        return recorder.stream(source, notes)


def _expectations(inference: Inference) -> Iterator[str]:
    """Say which components have work that data decides, and what was assumed."""
    for path, plan in inference.slots.items():
        if plan.info.cls.data_decides:
            yield f"{path}: {plan.info.cls.data_decides}"
