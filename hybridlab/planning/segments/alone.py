"""One instruction alone: its forward and backward recorded on fake tensors, given what it is given in a whole step.

What autograd does between instructions is little and known: it hands gradients over, and adds up those of a value that
several read. So an instruction is recorded with inputs, gradients and gradients that have come before it of the same
shapes, strides and sharing as in the step, and everything that it does follows; ``compose`` puts recordings together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridlab.architecture.program import Beside
from hybridlab.planning.segments.record import (
    AT_END,
    BEFORE,
    IN_BACKWARD,
    IN_FORWARD,
    LEFT,
    NEVER,
    Asked,
    Given,
    Made,
    Meta,
    Part,
    Reference,
    Segment,
    Until,
    UnusualError,
)
from hybridlab.planning.segments.tensors import like, made, meta_of, several
from hybridlab.planning.tracing import PackRecorder, State, held_by, versions
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.recorder import BATCH, BUFFERS, OTHER, WEIGHTS
from hybridlab.trace.step import casting

Run = Callable[[list[Tensor], Beside], Tensor]


def record_alone(
    module: nn.Module | None,
    run: Run,
    inputs: Sequence[Given],
    asked: Asked | None = None,
    there: Sequence[Tensor] = (),
    *,
    cast: torch.dtype | None = None,
) -> Segment:
    """Record an instruction; called among fake tensors. Without ``asked`` its outputs get gradients like themselves.

    ``there`` are other tensors that are there before the step, ``cast`` the type of autocast around forward.

    Raises:
        UnusualError: it cannot be told alone.
    """
    return _Alone(module, run, inputs, asked, there, cast).segment()


class Source(torch.autograd.Function):
    """Gives an input that somebody before would have made, and takes its gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, box: list[Tensor], arrived: Callable[[Any], None]) -> Any:
        """Take the input out of its box; ``anchor`` asks for gradients, so that ``arrived`` hears of its own."""
        ctx.arrived = arrived
        ctx.set_materialize_grads(False)
        return box.pop()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Hand the gradient on, and keep nothing of it."""
        ctx.arrived(gradients[0])
        return None, None, None


class _Root(torch.autograd.Function):
    """Stands for everything behind: reads outputs and inputs, and gives them the gradients that they have got."""

    @staticmethod
    def forward(ctx: Any, give: Callable[[], Sequence[Any]], *tensors: Tensor) -> Tensor:
        ctx.give = give
        return torch.empty(())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.give()


class _Alone:
    """One recording."""

    def __init__(
        self,
        module: nn.Module | None,
        run: Run,
        inputs: Sequence[Given],
        asked: Asked | None,
        there: Sequence[Tensor],
        cast: torch.dtype | None,
    ) -> None:
        self.module, self.run, self.inputs, self.asked = module, run, inputs, asked
        self.cast = cast
        self.recorder = PackRecorder(Attribution({}))
        for tensor in there:
            self._known(tensor)
        self.arrivals: dict[int, Tensor | None] = {}
        self.given_numbers: dict[int, int] = {}
        self.began = self.ended = 0
        self.answered: Asked | None = None

    def segment(self) -> Segment:
        recorder = self.recorder
        self._know_weights()
        tensors = [tensor for tensor in several(self.inputs) if tensor is not None]
        self.input_numbers = {
            self._known(tensor): given.storage
            for given, tensor in zip(self.inputs, tensors, strict=True)
        }
        anchor = torch.empty((), requires_grad=True)
        recorder.know(OTHER, "", anchor)
        self.first = len(recorder.table["bytes"])
        beside = Beside()
        with recorder.attribution, recorder:
            with recorder.phase("forward"):
                values = [
                    Source.apply(  # type: ignore[no-untyped-call]
                        anchor, [tensor], self._arriving(place)
                    )
                    if one.needs
                    else tensor
                    for place, (one, tensor) in enumerate(zip(self.inputs, tensors, strict=True))
                ]
                del tensors
                self.start = recorder.tick
                self.row_start = len(recorder.rows["tick"])
                self.first_pack = len(recorder.packs)
                before = self._versions(values)
                with casting(self.cast):
                    output = self.run(list(values), beside)
                self.stop, packed = recorder.tick, len(recorder.packs)
                held = held_by(self._modules(), before, self._versions(values))
            if beside.exits:
                raise UnusualError("a loss on the way, at an early exit")
            outputs = [output, *beside.aux]
            self.described = tuple(
                (recorder.number_of(one), meta_of(one), one.requires_grad) for one in outputs
            )
            same = next((p for p, one in enumerate(values) if one is output), None)
            self.packed = recorder.packs[self.first_pack : packed]
            self.middle = len(recorder.table["bytes"])
            self.back_rows = len(recorder.rows["tick"])
            root = self._root(outputs, values) if same is None else None
            del output, outputs, values, before
            self.began = self.ended = recorder.tick
            if root is not None:
                with recorder.phase("backward"):
                    root.backward()  # type: ignore[no-untyped-call]
                if not self.arrivals:
                    self.ended = recorder.tick
            self.after = recorder.tick
            gradients = self._gradients()
            weights = self._weight_gradients()
            self.arrivals.clear()
            self.back_end = len(recorder.table["bytes"])
            del root
            self.over = recorder.tick
            update = self._update()
        return self._segment(same, held, gradients, weights, update)

    def _known(self, tensor: Tensor) -> int:
        self.recorder.know(BATCH, "", tensor)
        return self.recorder.number_of(tensor)

    def _know_weights(self) -> None:
        self.named: dict[str, nn.Parameter] = {}
        self.old: dict[str, int] = {}
        """The storages of gradients that weights have already."""
        if self.module is None:
            return
        for name, parameter in self.module.named_parameters():
            self.named[name] = parameter
            self.recorder.know(WEIGHTS, name, parameter)
        for name, buffer in self.module.named_buffers():
            self.recorder.know(BUFFERS, name, buffer)
        for name in self.asked.weights if self.asked is not None else ():
            parameter = self.named[name]
            parameter.grad = torch.empty_like(parameter)
            self.recorder.know(OTHER, name, parameter.grad)
        self.old = {
            name: self.recorder.number_of(p.grad)
            for name, p in self.named.items()
            if p.grad is not None
        }

    def _versions(self, values: Sequence[Any]) -> State:
        return versions(self._modules(), values)

    def _modules(self) -> Iterable[nn.Module]:
        return () if self.module is None else self.module.modules()

    def _arriving(self, place: int) -> Callable[[Any], None]:
        def arrived(gradient: Any) -> None:
            if not self.arrivals:
                self.ended = self.recorder.tick
            self.arrivals[place] = gradient

        return arrived

    def _root(self, outputs: Sequence[Tensor], values: Sequence[Any]) -> Tensor | None:
        """Read what gets gradients; they are made when backward comes here."""
        numbers = itertools.count()
        asked = self.asked or Asked(
            tuple(
                Given(like(one), number := next(numbers), number) if one.requires_grad else None
                for one in outputs
            ),
            (None,) * len(self.inputs),
        )
        self.answered = asked
        wanted = [*asked.outputs, *asked.inputs]
        readers = [*outputs, *values]
        pairs = [(g, t) for g, t in zip(wanted, readers, strict=True) if g is not None]
        if not any(given is not None for given in asked.outputs):
            return None
        anchor = torch.empty((), requires_grad=True)
        others = list(dict.fromkeys(given for given, _ in pairs if given.beside))
        holders = [
            Source.apply(  # type: ignore[no-untyped-call]
                anchor, [made(g.meta)], lambda gradient: None
            )
            for g in others
        ]
        wishes = [given for given, _ in pairs]

        def give() -> list[Any]:
            found = several(wishes)
            for given, tensor in zip(wishes, found, strict=True):
                assert tensor is not None
                self.given_numbers.setdefault(given.storage, self.recorder.number_of(tensor))
            again = [found[wishes.index(given)] for given in others]
            self.began = self.recorder.tick
            self.back_first = len(self.recorder.table["bytes"])
            self.back_rows = len(self.recorder.rows["tick"])
            return [*found, *again]

        root: Tensor = _Root.apply(  # type: ignore[no-untyped-call]
            give, *(tensor for _, tensor in pairs), *holders
        )
        return root

    def _gradients(self) -> tuple[tuple[int, Meta] | None, ...]:
        return tuple(
            None
            if (gradient := self.arrivals.get(place)) is None
            else (self.recorder.number_of(gradient), meta_of(gradient))
            for place in range(len(self.inputs))
        )

    def _weight_gradients(self) -> dict[str, int]:
        return {
            name: self.recorder.number_of(parameter.grad)
            for name, parameter in self.named.items()
            if parameter.grad is not None
        }

    def _update(self) -> Made | None:
        """Let the component move what no gradient moves, and note what that makes."""
        body = getattr(self.module, "body", None)
        moves = getattr(body, "after_update", None)
        if moves is None:
            return None
        recorder = self.recorder
        first, start = len(recorder.table["bytes"]), recorder.tick
        with recorder.phase("optimiser"):
            moves()
        table = recorder.table
        if len(table["bytes"]) == first:
            return None
        born, died = (np.array(table[name][first:]) for name in ("born", "died"))
        return (
            np.array(table["bytes"][first:]),
            born - start,
            np.where(died < 0, -1, died - start),
            recorder.tick - start,
        )

    def _segment(
        self,
        same: int | None,
        held: str,
        gradients: tuple[tuple[int, Meta] | None, ...],
        weights: dict[str, int],
        update: Made | None,
    ) -> Segment:
        table = self.recorder.table
        self.handed = {one[0] for one in gradients if one is not None}
        """What is handed on, which is held here no longer than until the end."""
        self.numbers: dict[int, Reference] = {}
        for number, storage in self.input_numbers.items():
            self.numbers[number] = Reference("input", storage)
        for storage, number in self.given_numbers.items():
            self.numbers[number] = Reference("given", storage)
        born = table["born"]
        ahead = [n for n in range(self.first, self.middle) if self.start < born[n] <= self.stop]
        first = getattr(self, "back_first", self.middle)
        back = [n for n in range(first, self.back_end) if self.began < born[n] <= self.ended]
        for of, some in (("ahead", ahead), ("back", back)):
            for place, number in enumerate(some):
                self.numbers[number] = Reference(of, place)
        there = sum(
            table["bytes"][n]
            for n in range(self.first, len(born))
            if born[n] == 0 and n not in self.numbers
        )
        until = [self._until(number) for number in self.input_numbers]
        ran = getattr(self, "back_first", None) is not None
        return Segment(
            self.answered,
            self._part(ahead, self.start, self.stop, self.row_start),
            self._part(back, self.began, self.ended, self.back_rows) if ran else None,
            tuple((self._refer(n), meta, needs) for n, meta, needs in self.described),
            same,
            tuple((tick - self.start, self.numbers.get(n, BEFORE)) for tick, _, n in self.packed),
            dict(zip(self.input_numbers.values(), until, strict=True)),
            tuple(None if one is None else (self._refer(one[0]), one[1]) for one in gradients),
            {s: self._until(n) for s, n in self.given_numbers.items()},
            {
                name: None if self.old.get(name) == number else self._refer(number)
                for name, number in weights.items()
            },
            {name: self._until(n) for name, n in self.old.items()},
            update,
            there,
            held,
        )

    def _refer(self, number: int) -> Reference:
        if number not in self.numbers:
            raise UnusualError("a tensor that was there before")
        return self.numbers[number]

    def _until(self, number: int) -> Until:
        died = self.recorder.table["died"][number]
        if died < 0:
            return NEVER, 0
        if died <= self.stop:
            return IN_FORWARD, died - self.start
        if died <= self.began:
            return LEFT, 0
        if died <= self.ended:
            return IN_BACKWARD, died - self.began
        if died > self.over:
            return NEVER, 0
        return (LEFT if number in self.handed else AT_END), 0

    def _part(self, numbers: list[int], start: int, stop: int, first_row: int) -> Part:
        table, rows = self.recorder.table, self.recorder.rows
        mine = [r for r in range(first_row, len(rows["tick"])) if start < rows["tick"][r] <= stop]
        return Part(
            stop - start,
            np.array([table["bytes"][n] for n in numbers], dtype=np.int64),
            np.array([table["born"][n] - start for n in numbers], dtype=np.int64),
            np.array([self._until(n) for n in numbers], dtype=np.int64).reshape(-1, 2).T,
            np.array([rows["tick"][r] - start for r in mine], dtype=np.int64),
            np.array([rows["flops"][r] for r in mine], dtype=np.int64),
            np.array(
                [rows["bytes_read"][r] + rows["bytes_written"][r] for r in mine], dtype=np.int64
            ),
        )
