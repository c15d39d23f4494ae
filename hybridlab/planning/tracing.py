"""One plain step on fake tensors, instruction by instruction: who makes, keeps and reads every piece of memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import (
    GIVEN,
    Beside,
    Program,
    modules_of,
    program,
    run_one,
)
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import Exit
from hybridlab.planning.plain_step import PlainStep, rows_of, storages_of
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import Recipe, fake_step, record
from hybridlab.trace.recorder import GRADIENTS, StepRecorder


def trace_plain(
    architecture: Architecture,
    inference: Inference,
    *,
    batch: int,
    length: int,
    recipe: Recipe,
    arrange: Callable[[nn.Module], object] | None = None,
    part: int | None = None,
) -> PlainStep:
    """Trace one training step in a steady state; the architecture has no errors.

    Of a batch in parts it is the one with this number, those behind the first with the gradients of one before. Without
    a number it is as large as the first and has gradients, which is the most where the first two are of one size.
    ``arrange`` is given the model before it runs, to fuse it for example.
    """
    with QuickFakeMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = fake_step(architecture, inference, batch=batch, length=length, recipe=recipe)
        step.prepare_state()
        assert isinstance(step.model, GraphModel) and step.loss is not None
        if arrange is not None:
            arrange(step.model)
        attribution = Attribution({})
        recorder = PackRecorder(attribution)
        if step.more:
            if part != 0:
                step.add_gradients(step.inputs, step.loss, attribution)
            if part:
                step.inputs, step.loss = step.more[part - 1]
            step.more = ()
            for parameter in step.parameters:
                if parameter.grad is not None:
                    recorder.know(GRADIENTS, "", parameter.grad)
        watched = _Watched(program(step.model), attribution, recorder)
        step.model.running = watched
        stream = record(step, "predicted", recorder=recorder)
    names = watched.program.names
    count = len(names)
    packs = [
        (tick, int(who) if who.isdigit() else count, storage)
        for tick, who, storage in recorder.packs
    ]
    paths = tuple(one.path for one in watched.program.instructions)
    storages, rows = storages_of(stream, count), rows_of(stream, count)
    return PlainStep(names, paths, storages, rows, packs, watched.reads, watched.held)


class PackRecorder(StepRecorder):  # type: ignore[no-untyped-call]
    """A recorder that also notes each time that a tensor is kept (tick, by whom, storage)."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__(attribution)
        self.packs: list[tuple[int, str, int]] = []

    @property
    def table(self) -> dict[str, list[Any]]:
        """The storages that were seen, by column."""
        return self._storages

    @property
    def rows(self) -> dict[str, list[Any]]:
        """The operators that ran, by column."""
        return self._ops

    def _pack(self, tensor: Tensor) -> Tensor:
        known = super()._pack(tensor)
        self.packs.append((self.tick, self.attribution.now(), self.number_of(tensor)))
        return known


class _Watched:
    """Runs a program in order and notes what each instruction reads and changes."""

    def __init__(self, written: Program, attribution: Attribution, recorder: PackRecorder) -> None:
        self.program = written
        self.attribution = attribution
        self.recorder = recorder
        self.reads: list[tuple[int, ...]] = []
        self.held: dict[int, str] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[str, Exit]]]:
        values, beside = {GIVEN: x}, Beside()
        del x
        for place, one in enumerate(self.program.instructions):
            inputs = [values[number] for number in one.reads]
            self.reads.append(tuple(self.recorder.number_of(tensor) for tensor in inputs))
            before = versions(modules_of(one), inputs)
            watched = list(inputs)
            with self.attribution.within(str(place)):
                values[one.writes] = run_one(one, inputs, beside)
            after = versions(modules_of(one), watched)
            if reason := held_by(modules_of(one), before, after):
                self.held[place] = reason
            del after
            del watched
            for number in one.frees:
                values.pop(number, None)
        return values[self.program.output], beside.aux, beside.exits


State = dict[str, tuple[Any, ...]]
"""What tells whether a forward has changed something that outlives it, by name."""


def versions(modules: Iterable[nn.Module], inputs: Sequence[Tensor]) -> State:
    """Return the state of an instruction's modules and inputs."""
    found: State = {f"its input {index}": (tensor._version,) for index, tensor in enumerate(inputs)}
    for module in modules:
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                found[name] = (id(tensor), tensor._version)
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str) and name != "training":
                found[name] = (value,)
    return found


def held_by(modules: Iterable[nn.Module], before: State, after: State) -> str:
    """Say why an instruction cannot be computed again, by its state before and after its forward; empty if it can."""
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            return f"its forward changes {name}, which would be changed twice"
    for module in modules:
        if any(isinstance(value, torch.Generator) for value in vars(module).values()):
            return "it draws from a random generator of its own, whose state is not put back"
    return ""
