"""One plain step on fake tensors, instruction by instruction: who makes, keeps and reads every piece of memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import (
    GIVEN,
    Beside,
    Instruction,
    Program,
    modules_of,
    program,
    run_one,
)
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import Exit
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import Recipe, fake_step, record
from hybridlab.trace.recorder import StepRecorder
from hybridlab.trace.stream import OpStream


@dataclass
class PlainStep:
    """The stream of a plain step whose ``component`` column holds an instruction's place, as text.

    ``packs`` are (tick, place, storage) of everything that autograd keeps; ``reads`` are the storages of what each
    instruction reads; ``held`` says why an instruction cannot be computed again, by place.
    """

    program: Program
    stream: OpStream
    packs: list[tuple[int, str, int]]
    reads: list[tuple[int, ...]]
    held: dict[int, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the instructions."""
        return self.program.names


def trace_plain(
    architecture: Architecture, inference: Inference, *, batch: int, length: int, recipe: Recipe
) -> PlainStep:
    """Trace one training step in a steady state; the architecture has no errors."""
    with QuickFakeMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = fake_step(architecture, inference, batch=batch, length=length, recipe=recipe)
        step.prepare_state()
        assert isinstance(step.model, GraphModel)
        attribution = Attribution({})
        recorder = _PackRecorder(attribution)
        watched = _Watched(program(step.model), attribution, recorder)
        step.model.running = watched
        stream = record(step, "predicted", recorder=recorder)
    return PlainStep(watched.program, stream, recorder.packs, watched.reads, watched.held)


class _PackRecorder(StepRecorder):  # type: ignore[no-untyped-call]
    """A recorder that also notes each time that a tensor is kept, and by whom."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__(attribution)
        self.packs: list[tuple[int, str, int]] = []

    def _pack(self, tensor: Tensor) -> Tensor:
        known = super()._pack(tensor)
        self.packs.append((self.tick, self.attribution.now(), self.number_of(tensor)))
        return known


class _Watched:
    """Runs a program in order and notes what each instruction reads and changes."""

    def __init__(self, written: Program, attribution: Attribution, recorder: _PackRecorder) -> None:
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
            before = _versions(one, inputs)
            watched = list(inputs)
            with self.attribution.within(str(place)):
                values[one.writes] = run_one(one, inputs, beside)
            reason = next(_changes(before, _versions(one, watched)), None) or _own_random(one)
            if reason:
                self.held[place] = reason
            del watched
            for number in one.frees:
                values.pop(number, None)
        return values[self.program.output], beside.aux, beside.exits


_State = dict[str, tuple[Any, ...]]


def _versions(one: Instruction, inputs: list[Tensor]) -> _State:
    """Return what tells whether a forward has changed something that outlives it, by name."""
    found: _State = {
        f"its input {index}": (tensor._version,) for index, tensor in enumerate(inputs)
    }
    for module in modules_of(one):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                found[name] = (id(tensor), tensor._version)
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str) and name != "training":
                found[name] = (value,)
    return found


def _changes(before: _State, after: _State) -> Iterator[str]:
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"its forward changes {name}, which would be changed twice"


def _own_random(one: Instruction) -> str | None:
    for module in modules_of(one):
        if any(isinstance(value, torch.Generator) for value in vars(module).values()):
            return "it draws from a random generator of its own, whose state is not put back"
    return None
