"""Stretches of a step: instructions in a row that are compiled together, so that the compiler fuses across them.

A stretch reads one value and hands on one; nobody else reads what is written in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn

from hybridlab.architecture.program import GIVEN, Beside, Instruction, Program, run_one
from hybridlab.errors import Problem, RunError

Span = tuple[int, int]
"""Numbers of the first and the last instruction, both included."""
_LENGTHS = (1, 2, 4)
"""Pieces that cannot be divided, so many in a row, are tried together; and as many as there are."""


class Stretch(nn.Module):
    """Instructions as one module: what one value becomes behind all of them."""

    def __init__(self, steps: Sequence[Instruction]) -> None:
        """Know the instructions; their modules stay those of the model."""
        super().__init__()
        self.steps = tuple(steps)
        self.inside = nn.ModuleList(one.module for one in steps if one.module is not None)
        (self.reads,) = _outer(steps)

    def forward(self, x: Tensor) -> Tensor:
        """Run the instructions in order."""
        values, beside = {self.reads: x}, Beside()
        for one in self.steps:
            values[one.writes] = run_one(one, [values[number] for number in one.reads], beside)
        return values[self.steps[-1].writes]

    @property
    def wiring(self) -> tuple[tuple[int, ...], ...]:
        """What each instruction reads: how far in front it was written; 0 is what the stretch is given."""
        place = {one.writes: at for at, one in enumerate(self.steps, 1)}
        return tuple(tuple(place.get(number, 0) for number in one.reads) for one in self.steps)


def candidates(written: Program, alone: Collection[int] = ()) -> list[Span]:
    """Return the stretches that are worth a try, those that are ``alone`` in none of them."""
    count = len(written.instructions)
    cuts = [border for border in range(count + 1) if _live(written, border) == 1]
    found: set[Span] = set()
    for run in _runs(cuts, frozenset(alone)):
        for length in {*_LENGTHS, len(run)}:
            rows = zip(run, run[length - 1 :], strict=False)
            found |= {(first, last) for (first, _), (_, last) in rows if last > first}
    return sorted(found)


def together(written: Program, stretches: Collection[Span]) -> Program:
    """Return a program in which each stretch is one instruction, whose module is a ``Stretch``."""
    last_of, made, place = dict(stretches), [], 0
    while place < len(written.instructions):
        last = last_of.get(place, place)
        steps = written.instructions[place : last + 1]
        made.append(_one(steps) if last > place else steps[0])
        place = last + 1
    return replace(written, instructions=tuple(made))


def as_compiled(
    written: Program,
    spans: Sequence[Span],
    shares: Sequence[float | None],
    stretches: Sequence[Span],
) -> tuple[Program, list[Span], tuple[float | None, ...]]:
    """Return a program with its stretches as one instruction each, and a plan's spans and budgets for that one.

    Raises:
        RunError: there are budgets, but not one for each instruction.
    """
    if shares:
        one_for_each(written, shares)
    ends = dict(stretches)
    inside = {place for first, last in stretches for place in range(first + 1, last + 1)}
    stays = [place for place in range(len(written.instructions)) if place not in inside]
    at = {place: number for number, place in enumerate(stays)}
    left = tuple(shares[place] for place in stays) if shares else ()
    return (
        together(written, ends.items()),
        [(at[first], at[last]) for first, last in spans],
        left,
    )


def one_for_each(written: Program, shares: Sequence[float | None]) -> None:
    """Check that there is a budget for each instruction.

    Raises:
        RunError: there are more or fewer.
    """
    if len(shares) != len(written.instructions):
        what, count = "are not one for each component", len(written.instructions)
        raise RunError(Problem("shares", what, f"{count}", f"{len(shares)}"))


def _one(steps: Sequence[Instruction]) -> Instruction:
    inside = {one.writes for one in steps[:-1]}
    name = f"{steps[0].name} to {steps[-1].name}"
    return Instruction(
        *(name, steps[0].path, "stretch", Stretch(steps), _outer(steps), steps[-1].writes),
        frees=tuple(n for one in steps for n in one.frees if n not in inside),
    )


def _outer(steps: Sequence[Instruction]) -> tuple[int, ...]:
    """Return the values that instructions read of those written in front of them."""
    inside = {one.writes for one in steps}
    return tuple(dict.fromkeys(n for one in steps for n in one.reads if n not in inside))


def _live(written: Program, border: int) -> int:
    """Return how many values stand at a border: written in front of it, and read behind it."""
    ahead = {GIVEN, *(one.writes for one in written.instructions[:border])}
    behind = {n for one in written.instructions[border:] for n in one.reads} | {written.output}
    return len(ahead & behind)


def _runs(cuts: Sequence[int], alone: Collection[int]) -> Iterator[list[Span]]:
    """Yield the pieces between cuts, as many in a row as have nothing in them that is alone."""
    run: list[Span] = []
    for first, end in pairwise(cuts):
        if any(place in alone for place in range(first, end)):
            yield run
            run = []
        else:
            run.append((first, end - 1))
    yield run


def paths(one: Instruction) -> list[str]:
    """Return the paths of the components in an instruction."""
    steps: Sequence[Instruction] = one.module.steps if isinstance(one.module, Stretch) else [one]
    return [step.path for step in steps]
