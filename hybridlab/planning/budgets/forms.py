"""The forms of each component of a step: compiled under several of PyTorch's memory budgets, each measured alone.

Components of the same parameters that read the same sizes are measured once. What draws random numbers is not
compiled, for below a budget of 1 PyTorch's gradients are then wrong (pytorch#190758), and neither is what would be
compiled anew whenever values change; it may be computed again all the same.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.architecture.program import (
    GIVEN,
    Beside,
    Instruction,
    modules_of,
    program,
    run_one,
)
from hybridlab.components.base import Component
from hybridlab.errors import Problem, RunError
from hybridlab.planning.budgets.alone import Lone, Taken
from hybridlab.planning.budgets.stretches import Span, Stretch, candidates, together
from hybridlab.planning.budgets.update import measured_update
from hybridlab.planning.compiled import Backend, draws, graphs_made, told, under, wide_limits
from hybridlab.planning.tracing import held_by, versions
from hybridlab.planning.turns import kept_buffers
from hybridlab.profiling.session import resident_bytes
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.trace.step import TrainingStep

_ROUNDS = 15
BUDGETS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""PyTorch's budgets that each component is compiled under where none are named."""


@dataclass(frozen=True)
class Form:
    """A component under one of PyTorch's budgets, 0 to 1, and what it takes so; None: not compiled."""

    share: float | None
    taken: Taken


@dataclass(frozen=True)
class Place:
    """An instruction of the step: the numbers of the values that it reads and writes, and its forms.

    ``held`` says why it cannot be computed again, ``plain_because`` why it is not compiled; empty where it can, or is.
    """

    name: str
    reads: tuple[int, ...]
    writes: int
    forms: tuple[Form, ...]
    held: str = ""
    plain_because: str = ""

    @property
    def fastest(self) -> Form:
        """The form that takes least time."""
        return min(self.forms, key=lambda form: form.taken.both_us)

    def passes(self, number: int) -> bool:
        """Say whether the gradient of a value that it reads is the very one of what it writes, in all forms."""
        index = self.reads.index(number)
        return all(form.taken.passes[index] for form in self.forms)


@dataclass(frozen=True)
class Forms:
    """All of a step's instructions, its ``loss``, and what is there beside them, in bytes.

    ``values`` are the bytes of each value by its number, of which those ``learning`` get gradients; ``output`` is the
    number of what the loss reads. ``stretches`` are instructions in a row that were compiled together, by the first and
    the last of them; there are only compiled forms of them. ``static_bytes`` stand all the time, ``update_bytes`` are
    the most that stands in an update, and ``gradients`` are those of weights that stand as each place's backward
    begins.
    """

    places: tuple[Place, ...]
    loss: Taken
    values: dict[int, int]
    learning: frozenset[int]
    output: int
    static_bytes: int
    update_bytes: int
    update_us: float
    gradients: tuple[int, ...]
    stretches: Mapping[Span, Place] = field(default_factory=dict)


def measure_forms(
    step: TrainingStep,
    *,
    shares: Sequence[float] = BUDGETS,
    backend: Backend = "inductor",
    on_part: Callable[[int, int], object] = lambda done, parts: None,
    stretches: bool = False,
) -> Forms:
    """Compile each different component of a step under each budget, and measure it alone on what it reads.

    Args:
        step: a training step on an architecture's model, whose weights move as in training; the model is plain
            afterwards.
        shares: PyTorch's budgets, each 0 to 1.
        backend: what compiles the graphs once PyTorch has divided them.
        on_part: hears before each component how many of how many are done; what it raises ends everything.
        stretches: components in a row are compiled together too; it takes several times as long.

    Raises:
        RunError: the model is not built from an architecture, there is no loss, or a budget is out of range.
    """
    model = step.model
    if not isinstance(model, GraphModel) or step.loss is None or len(step.inputs) != 1:
        raise RunError(Problem("model", "is not a training step of an architecture"))
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise RunError(Problem("budget", "is out of range", "0 to 1", f"{wrong[0]:g}"))
    if leaving := [path for path, slot in model.slots() if _may_leave(slot)]:
        what = "has a loss of its own on the way, which components compiled one by one do not see"
        raise RunError(Problem(leaving[0], what, fix="leave early exits out, or use a plan"))
    with warnings.catch_warnings(), wide_limits():
        warnings.simplefilter("ignore")
        try:
            measuring = _Measuring(model, step, sorted(shares, reverse=True), backend, on_part)
            return measuring.forms(stretches=stretches)
        finally:
            torch._dynamo.reset()


def _may_leave(slot: Slot) -> bool:
    """Say whether a component is an early exit."""
    return type(slot.body).exit is not Component.exit


class _Measuring:
    """One measurement of all forms."""

    def __init__(
        self,
        model: GraphModel,
        step: TrainingStep,
        shares: Sequence[float],
        backend: Backend,
        on_part: Callable[[int, int], object],
    ) -> None:
        self.model, self.step, self.shares = model, step, shares
        self.backend, self.on_part = backend, on_part
        self.program = program(model)
        modules = [one.module for one in self.program.instructions if one.module is not None]
        self.tied = {id(one) for one in modules if modules.count(one) > 1}

    def forms(self, *, stretches: bool) -> Forms:
        """Measure the update, then each place, then stretches, then the loss."""
        instructions, loss = self.program.instructions, self.step.loss
        assert loss is not None
        update_level, update_us = measured_update(self.step)
        drawing = draws(self.step)
        values, held = self._values()
        known: dict[object, tuple[tuple[Form, ...], str]] = {}
        places: list[Place] = []
        tries = candidates(self.program, self._alone(drawing, held)) if stretches else []
        parts = len(instructions) + len(tries)
        for place, one in enumerate(instructions):
            self.on_part(place, parts)
            reads = tuple(dict.fromkeys(one.reads))
            inputs = [values[number] for number in reads]
            why = f"it draws random numbers ({drawing[one.path]})" if one.path in drawing else ""
            key = _key(one, inputs), id(one.module) in self.tied, why
            if key not in known:
                known[key] = self._forms(one, inputs, why)
            forms, plain = known[key]
            places.append(Place(one.name, reads, one.writes, forms, held.get(place, ""), plain))
        found: dict[Span, Place] = {}
        for done, span in enumerate(tries, len(instructions)):
            self.on_part(done, parts)
            if not any(one.plain_because for one in places[span[0] : span[1] + 1]):
                found |= self._stretch(span, values, known)
        self.on_part(parts, parts)
        output = values[self.program.output]
        lone = Lone(lambda given: [loss(given.pop())], [output], around=self.step.around)
        lone.warm()
        lost = _timed([_Compiled(None, lone, None, None, lone.taken())])
        static = resident_bytes(self.step)
        return Forms(
            places=tuple(places),
            loss=lost[0].taken,
            values={n: x.untyped_storage().nbytes() for n, x in values.items() if n != GIVEN},
            learning=frozenset(n for n, x in values.items() if x.requires_grad),
            output=self.program.output,
            static_bytes=static,
            update_bytes=static + update_level,
            update_us=update_us,
            gradients=tuple(map(self._gradients, range(len(instructions) + 1))),
            stretches=found,
        )

    def _alone(self, drawing: Collection[str], held: Collection[int]) -> set[int]:
        """Return the places that are in no stretch: what is not compiled, runs more than once, or asks for a loss."""
        return {
            place
            for place, one in enumerate(self.program.instructions)
            if one.path in drawing
            or place in held
            or id(one.module) in self.tied
            or (
                isinstance(one.module, Slot)
                and type(one.module.body).aux_loss is not Component.aux_loss
            )
        }

    def _stretch(
        self,
        span: Span,
        values: Mapping[int, Tensor],
        known: dict[object, tuple[tuple[Form, ...], str]],
    ) -> dict[Span, Place]:
        """Return a stretch with its forms; nothing where it cannot be compiled."""
        one = together(self.program, [span]).instructions[span[0]]
        inputs = [values[number] for number in one.reads]
        key = _key(one, inputs)
        if key not in known:
            known[key] = self._forms(one, inputs, "")
        forms, why = known[key]
        return {} if why else {span: Place(one.name, one.reads, one.writes, forms)}

    def _values(self) -> tuple[dict[int, Tensor], dict[int, str]]:
        """Run forward once; return every value by its number, and why some places cannot be computed again."""
        values, held = {GIVEN: self.step.inputs[0]}, {}
        with torch.random.fork_rng(devices=[]), self.step.around():
            for place, one in enumerate(self.program.instructions):
                inputs = [values[number] for number in one.reads]
                watched, before = list(inputs), versions(modules_of(one), inputs)
                values[one.writes] = run_one(one, inputs, Beside())
                if why := held_by(modules_of(one), before, versions(modules_of(one), watched)):
                    held[place] = why
        return values, held

    def _forms(
        self, one: Instruction, inputs: Sequence[Tensor], why: str
    ) -> tuple[tuple[Form, ...], str]:
        """Return an instruction's forms, and why it is not compiled, where it is not."""
        shares: Sequence[float] = ()
        if one.module is not None and not why:
            shares = self.shares[:1] if id(one.module) in self.tied else self.shares
        found: list[_Compiled] = []
        with kept_buffers(one.module or nn.Module()):
            for share in shares:
                try:
                    found.append(self._compiled(one, inputs, share))
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    said = str(error) if isinstance(error, RunError) else told(error)
                    why, found = f"PyTorch cannot compile it: {said}", []
                    break
            return _timed(found or [self._compiled(one, inputs, None)]), why

    def _compiled(
        self, one: Instruction, inputs: Sequence[Tensor], share: float | None
    ) -> _Compiled:
        """Compile an instruction under a budget, or take it as it is, and measure its bytes."""
        module, numbers = one.module, tuple(dict.fromkeys(one.reads))

        def runs(given: list[Tensor]) -> list[Tensor]:
            beside, by_number = Beside(), dict(zip(numbers, given, strict=True))
            read = [by_number[number] for number in one.reads]
            given.clear()
            by_number.clear()
            return [run_one(one, read, beside), *beside.aux]

        weights = list(module.parameters()) if module is not None else []
        lone = Lone(runs, inputs, weights, self.step.around)
        call: Callable[..., Any] | None = None
        if module is not None and share is not None:
            module.compile(backend=under(self.backend, share), dynamic=False)
            call, module._compiled_call_impl = module._compiled_call_impl, None
        with _called(module, call):
            lone.warm()
            made = graphs_made()
            lone.warm(stirred=call is not None)
            if graphs_made() > made:
                raise RunError(Problem("", "its graph changes with what it reads"))
            return _Compiled(share, lone, module, call, lone.taken())

    def _gradients(self, place: int) -> int:
        """Return the bytes of the weights' gradients that stand as a place's backward begins."""
        behind = self.program.instructions[place + 1 :]
        weights = {
            id(weight): weight.nbytes
            for one in behind
            if one.module is not None
            for weight in one.module.parameters()
            if weight.requires_grad
        }
        return sum(weights.values())


@dataclass(frozen=True)
class _Compiled:
    """An instruction under one budget: what runs it, and its bytes."""

    share: float | None
    lone: Lone
    module: nn.Module | None
    call: Callable[..., Any] | None
    taken: Taken


@contextlib.contextmanager
def _called(module: nn.Module | None, call: Callable[..., Any] | None) -> Iterator[None]:
    """Let a module run as it was compiled meanwhile."""
    if module is None:
        yield
        return
    module._compiled_call_impl = call
    try:
        yield
    finally:
        module._compiled_call_impl = None


def _timed(some: Sequence[_Compiled]) -> tuple[Form, ...]:
    """Time compiled instructions in turns; those that PyTorch divides alike are one, under the largest budget."""
    distinct: dict[Taken, _Compiled] = {}
    for one in some:
        distinct.setdefault(one.taken, one)
    times: dict[Taken, list[tuple[float, float]]] = {taken: [] for taken in distinct}
    for _ in range(_ROUNDS):
        for taken, one in distinct.items():
            with _called(one.module, one.call):
                times[taken].append(one.lone.timed())
    return tuple(
        Form(
            one.share,
            replace(
                taken,
                ahead_us=min(ahead_us for ahead_us, _ in times[taken]),
                back_us=min(back_us for _, back_us in times[taken]),
            ),
        )
        for taken, one in distinct.items()
    )


def _key(one: Instruction, inputs: Sequence[Tensor]) -> object:
    """Return what an instruction's figures depend on: what it is, its parameters, and the sizes that it reads."""
    read = tuple((tuple(x.shape), x.stride(), x.dtype, x.requires_grad) for x in inputs)
    again = tuple(one.reads.index(number) for number in one.reads)
    if isinstance(one.module, Stretch):
        return one.module.wiring, tuple(map(_what, one.module.steps)), read
    return _what(one), read, again


def _what(one: Instruction) -> object:
    """Return what an instruction is, whatever it reads: its component, parameters, norm and residual."""
    if one.module is None:
        return one.form
    body: nn.Module = one.module.body if isinstance(one.module, Slot) else one.module
    params = getattr(body, "params", None)
    weights = tuple(
        (name, tuple(p.shape), p.requires_grad) for name, p in one.module.named_parameters()
    )
    slot = (one.module.residual, type(one.module.norm)) if isinstance(one.module, Slot) else ()
    said = "" if params is None else params.model_dump_json()
    return one.form, type(body), said, slot, weights
