"""Applies a plan to a model: runs of components are computed again in backward, others' tensors leave memory meanwhile.

Autograd's graph stays that of the plain step, and random states are put back, so gradients are equal bit for bit, where
what leaves memory is not kept in a smaller type.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import GIVEN, Beside, Program, modules_of, program
from hybridlab.components.base import Exit
from hybridlab.errors import Problem, RunError
from hybridlab.planning.offload import Offloading, storages_of
from hybridlab.planning.record import Plan
from hybridlab.planning.shelf import FileShelf, PinnedShelf, Shelf

Span = tuple[int, int]
"""Numbers of the first and the last instruction of a run, both included."""


def apply(model: GraphModel, plan: Plan | None, device: torch.device | None = None) -> None:
    """Let a model train by a plan from now on; None takes a plan away.

    ``device`` is where it will train, if that is not where it lies.

    Raises:
        RunError: the plan was made for another architecture, or for another kind of device.
    """
    if plan is None:
        model.running = None
        return
    first = next(model.parameters(), None)
    where = device or (torch.device("cpu") if first is None else first.device)
    if where.type != plan.device:
        raise RunError(
            Problem(
                "plan",
                "was made for another kind of device",
                plan.device,
                where.type,
                "make a plan for this one",
            )
        )
    written = program(model)
    spans = plan.spans(model.architecture.fingerprint, written.names)
    away = plan.away(written.names)
    shelf: Shelf | None = None
    if away:
        dtype = torch.bfloat16 if plan.offload_as == "bfloat16" else None
        shelf = FileShelf(dtype=dtype) if where.type == "cpu" else PinnedShelf(dtype)
    model.running = Recomputing(written, spans, away=away, shelf=shelf, model=model)


class Recomputing:
    """Runs a model's program, the spans by ``torch.utils.checkpoint``, all else as it stands."""

    def __init__(
        self,
        written: Program,
        spans: Sequence[Span],
        *,
        keep_random: bool = True,
        away: Collection[int] = (),
        shelf: Shelf | None = None,
        model: nn.Module | None = None,
    ) -> None:
        """Know the spans, in order and apart; ``keep_random`` puts random states back, as all but predictions need.

        What is kept of the places ``away`` goes to the ``shelf``, but for weights and buffers of the ``model``.
        """
        self.program = written
        self.spans = tuple(spans)
        self.keep_random = keep_random
        self.away = frozenset(away)
        self._offloading = None if shelf is None else Offloading(shelf)
        self._model = None if model is None else weakref.ref(model)
        self._reads = [_crossing(written, span) for span in self.spans]

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[str, Exit]]]:
        """Run forward: the output, the losses that components ask for, and the exits by path."""
        values, beside, at = {GIVEN: x}, Beside(), 0
        model = self._model() if self._model is not None else None
        stays = storages_of(model, x) if self.away and model is not None else set()
        del model, x
        for span, (reads, writes) in zip(self.spans, self._reads, strict=True):
            first, last = span
            self._kept(at, first - 1, values, beside, stays)
            made = checkpoint(
                _Again(self.program, span, reads, writes, beside),
                *(values[number] for number in reads),
                use_reentrant=False,
                preserve_rng_state=self.keep_random,
            )
            values.update(zip(writes, made, strict=True))
            del made
            for one in self.program.instructions[first : last + 1]:
                for number in one.frees:
                    values.pop(number, None)
            at = last + 1
        self._kept(at, len(self.program.instructions) - 1, values, beside, stays)
        return values[self.program.output], beside.aux, beside.exits

    def _kept(
        self, first: int, last: int, values: dict[int, Tensor], beside: Beside, stays: set[int]
    ) -> None:
        """Run instructions that are not computed again; what is kept of some leaves memory."""
        for place in range(first, last + 1):
            if place in self.away and self._offloading is not None:
                with self._offloading.of_one(stays):
                    self.program.run(place, place, values, beside)
            else:
                self.program.run(place, place, values, beside)


class _Again:
    """One span as a function of tensors: forward it notes what components leave; run again it leaves no trace."""

    def __init__(
        self,
        written: Program,
        span: Span,
        reads: tuple[int, ...],
        writes: tuple[int, ...],
        beside: Beside,
    ) -> None:
        self.program, self.span, self.reads, self.writes = written, span, reads, writes
        self.beside: Beside | None = beside

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.reads, inputs, strict=True))
        if self.beside is not None:
            beside, self.beside = self.beside, None  # what it notes must not hold this graph alive
            self.program.run(*self.span, values, beside)
        else:
            with _as_it_was(self.program, self.span):
                self.program.run(*self.span, values, Beside())
        return tuple(values[number] for number in self.writes)


@contextlib.contextmanager
def _as_it_was(written: Program, span: Span) -> Iterator[None]:
    """Put back what modules noted of their forward: the second time would hold another graph, and be counted twice."""
    found: list[tuple[nn.Module, dict[str, Any], dict[str, Tensor | None]]] = [
        (module, dict(module.__dict__), dict(module._buffers))
        for one in written.instructions[span[0] : span[1] + 1]
        for module in modules_of(one)
    ]
    try:
        yield
    finally:
        for module, attributes, buffers in reversed(found):
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)


def _crossing(written: Program, span: Span) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the values that a span reads from before, and those of its own that are read after it."""
    first, last = span
    inside = {one.writes for one in written.instructions[first : last + 1]}
    reads = {n for one in written.instructions[first : last + 1] for n in one.reads} - inside
    after = {n for one in written.instructions[last + 1 :] for n in one.reads} | {written.output}
    return tuple(sorted(reads)), tuple(sorted(inside & after))


def random_state_bytes() -> int:
    """Return the bytes that each span keeps of the CPU's random state."""
    return int(torch.get_rng_state().nbytes)
