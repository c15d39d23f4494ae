"""A model as a straight list: every component as often as it runs, groups and repeats written out, values numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, GroupModule, ScopeModule, Slot
from hybridlab.architecture.spec import INPUT, Residual
from hybridlab.components.base import Exit

GIVEN = 0
"""The number of the value that the model is given."""


@dataclass(frozen=True)
class Instruction:
    """One thing to run: a component in its place, or the norm and the residual around a whole group.

    ``name`` is the component's path; where it runs again, in a group that is tied, ``#2`` and so on follow. ``opens``
    is the norm before a group, ``closes`` the residual (and, with post, the norm) behind it. A ``stretch`` is several
    of them in one module, which whoever put them together gives.
    """

    name: str
    path: str
    form: Literal["component", "opens", "closes", "stretch"]
    module: nn.Module | None
    reads: tuple[int, ...]
    writes: int
    frees: tuple[int, ...] = ()
    """Values that nobody reads afterwards."""


@dataclass
class Beside:
    """What components leave beside their output in one forward: losses that they ask for, and exits by path."""

    aux: list[Tensor] = field(default_factory=list)
    exits: list[tuple[str, Exit]] = field(default_factory=list)


@dataclass(frozen=True)
class Program:
    """The instructions of a model in running order; the last one writes ``output``."""

    instructions: tuple[Instruction, ...]
    output: int

    @property
    def names(self) -> tuple[str, ...]:
        """The instructions' names, each there once."""
        return tuple(one.name for one in self.instructions)

    def run(self, first: int, last: int, values: dict[int, Tensor], beside: Beside) -> None:
        """Run a range of instructions, both ends included, on numbered values; free each after its last use."""
        for one in self.instructions[first : last + 1]:
            values[one.writes] = run_one(one, [values[number] for number in one.reads], beside)
            for number in one.frees:
                values.pop(number, None)


def run_one(one: Instruction, inputs: list[Tensor], beside: Beside) -> Tensor:
    """Run one instruction as the graph does, and note what it leaves beside its output."""
    module = one.module
    if isinstance(module, Slot):
        output: Tensor = module(*inputs)
        inputs.clear()
        if module.training and (loss := module.body.aux_loss()) is not None:
            beside.aux.append(loss)
        if (exit := module.body.exit()) is not None:
            beside.exits.append((module.path, exit))
        return output
    if one.form == "closes":
        kept, x = inputs
        inputs.clear()
        x = kept + x
        return x if module is None else module(x)
    assert module is not None
    return module(inputs.pop())  # type: ignore[no-any-return]


def program(model: GraphModel) -> Program:
    """Write a model out as a straight list in the order in which it runs."""
    writer = _Writer()
    output = writer.scope(model.root, [{INPUT: GIVEN}])
    last_use = {number: place for place, one in enumerate(writer.written) for number in one.reads}
    frees: dict[int, list[int]] = {}
    for number, place in last_use.items():
        frees.setdefault(place, []).append(number)
    return Program(
        tuple(
            Instruction(
                *(one.name, one.path, one.form, one.module, one.reads, one.writes),
                tuple(frees.get(place, ())),
            )
            for place, one in enumerate(writer.written)
        ),
        output,
    )


class _Writer:
    """Walks the graph as a run does, with numbers in the place of values."""

    def __init__(self) -> None:
        self.written: list[Instruction] = []
        self.times: Counter[str] = Counter()

    def scope(self, scope: ScopeModule, frames: list[dict[str, int]]) -> int:
        for step in scope.scope.steps:
            child = scope.child(step.node.id)
            reads = tuple(frames[-1 - ref.outward][ref.id] for ref in step.reads)
            if isinstance(child, GroupModule):
                number = self.group(child, reads[0], frames)
            else:
                assert isinstance(child, Slot)
                number = self.add(child.path, "component", child, reads)
            frames[-1][step.node.id] = number
        return frames[-1][scope.scope.output]

    def group(self, group: GroupModule, given: int, frames: list[dict[str, int]]) -> int:
        pre = group.node.residual is Residual.PRE
        current = given
        if group.norm is not None and pre:
            current = self.add(group.path, "opens", group.norm, (given,))
        for scope in group.scopes():
            current = self.scope(scope, [*frames, {INPUT: current}])
        if group.norm is None:
            return current
        norm = None if pre else group.norm
        return self.add(group.path, "closes", norm, (given, current))

    def add(
        self,
        path: str,
        form: Literal["component", "opens", "closes"],
        module: nn.Module | None,
        reads: tuple[int, ...],
    ) -> int:
        name = path if form == "component" else f"{path} {form}"
        self.times[name] += 1
        again = self.times[name]
        number = len(self.written) + 1
        self.written.append(
            Instruction(
                name if again == 1 else f"{name}#{again}", path, form, module, reads, number
            )
        )
        return number


def modules_of(one: Instruction) -> Iterator[nn.Module]:
    """Yield the modules whose attributes an instruction may change."""
    if one.module is not None:
        yield from one.module.modules()
