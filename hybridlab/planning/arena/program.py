"""A recorded pass bound to a buffer: what runs, in order, with its tensors already where they belong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from hybridlab.planning.arena.calls import ANSWER, Call, Recording
from hybridlab.planning.arena.lifetimes import Lifetimes
from hybridlab.planning.arena.offsets import Placement
from hybridlab.planning.arena.values import Value, tensor_in

Step = Callable[[], object]
aten = torch.ops.aten


@dataclass(frozen=True)
class Pieces:
    """The storages of a pass that lie in the arena, with their lifetimes; the others are made anew in each pass."""

    storages: tuple[int, ...]
    lifetimes: Lifetimes


def pieces_of(recording: Recording, *, lend: bool = False) -> Pieces:
    """Choose the storages that can lie in the arena, and note on each call whose results cannot why.

    The answer cannot, since the caller keeps it beyond the next pass, unless it is lent.
    """
    answer = {leaf.storage for leaf in tree_leaves(recording.output) if isinstance(leaf, Value)}
    first = {value.storage: -1 for value in recording.inputs}
    last = dict(first)
    for place, call in enumerate(recording.calls):
        if answer & set(call.made) and not lend:
            call.forms, call.why = None, ANSWER
        if call.made and call.forms is not None:
            first.update(dict.fromkeys(call.made, place))
        if not call.looks:
            last.update(dict.fromkeys(call.touched() & first.keys(), place))
    last.update(dict.fromkeys(answer & first.keys(), len(recording.calls)))
    storages = tuple(first)
    rows = [(recording.bytes[s], first[s], last.get(s, first[s])) for s in storages]
    return Pieces(storages, Lifetimes.of(rows))


class Program:
    """Runs a recorded pass in a buffer. It holds weights and constants by reference, and no batch's values."""

    def __init__(
        self, recording: Recording, pieces: Pieces, placement: Placement, *, lend: bool = False
    ) -> None:
        """Know the pass and where its pieces lie; it runs once it is bound to a buffer.

        What of the answer lies in the arena is copied out of it, or lent until the next pass.
        """
        self._recording, self._lend = recording, lend
        self._starts = dict(zip(pieces.storages, placement.offsets, strict=True))
        self._steps: list[Step] = []
        self._registers: list[Any] = []
        self._inputs: list[Tensor] = []
        self._answer: list[tuple[int | None, Any]] = []

    def bind(self, buffer: torch.UntypedStorage) -> None:
        """Put every tensor that lies in the arena into a buffer that is large enough."""
        binder = _Binder(self._recording, self._starts, buffer)
        self._inputs = [binder.fixed(value) for value in self._recording.inputs]
        for place, call in enumerate(self._recording.calls):
            binder.add(place, call)
        leaves, self._shape = tree_flatten(self._recording.output)
        self._answer = [
            binder.found(leaf) if isinstance(leaf, Value) else (None, leaf) for leaf in leaves
        ]
        self._steps, self._registers = binder.finished(), binder.registers

    def leave(self) -> None:
        """Drop every tensor that lies in the buffer; bind it again before it runs."""
        self._steps, self._registers, self._inputs, self._answer = [], [], [], []

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Run the pass on inputs of the recorded shapes and dtypes; gradients must be off."""
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given)
        registers = self._registers
        try:
            for step in self._steps:
                step()
            found = [
                registers[register] if register is not None else self._handed(leaf)
                for register, leaf in self._answer
            ]
        finally:
            registers[:] = [None] * len(registers)
        return tree_unflatten(found, self._shape)

    def _handed(self, leaf: Any) -> Any:
        """Return a part of the answer whose memory stays where it is: a weight, an input, or what is lent."""
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.detach() if self._lend else leaf.clone()


class _Binder:
    """Turns calls into steps: tensors of the arena and weights are fixed, others go through registers."""

    def __init__(
        self, recording: Recording, starts: dict[int, int], buffer: torch.UntypedStorage
    ) -> None:
        self._recording, self._starts, self._buffer = recording, starts, buffer
        self._fixed: dict[Value, Tensor] = {}
        self._places: dict[Value, int] = {}
        self._of_storage: dict[int, list[Value]] = {}
        self.registers: list[Any] = []
        self._moving: list[_Moving] = []
        self._steps: list[Step] = []

    def fixed(self, value: Value) -> Tensor:
        """Return the tensor of a value whose memory stays where it is."""
        tensor = self._fixed.get(value)
        if tensor is None:
            start = self._starts.get(value.storage)
            if start is not None:
                tensor = tensor_in(self._buffer, value, start)
            else:
                tensor = tensor_in(self._recording.outside[value.storage], value)
            self._fixed[value] = tensor
        return tensor

    def add(self, place: int, call: Call) -> None:
        """Add the steps of a call."""
        if call.looks:
            outputs = [leaf for leaf in tree_leaves(call.outputs) if isinstance(leaf, Value)]
            if all(self._stays(value) or value in self._places for value in outputs):
                return
        if call.made and call.forms is not None:
            for form in call.forms:
                self._step(form.func, form.args, form.kwargs, ())
            return
        results = enumerate(tree_leaves(call.outputs))
        stores = tuple(
            (index, self._place(leaf))
            for index, leaf in results
            if isinstance(leaf, Value) and not self._stays(leaf) and leaf not in self._places
        )
        self._step(call.func, call.args, call.kwargs, stores)

    def found(self, value: Value) -> tuple[int | None, Any]:
        """Return the register or the fixed tensor of a part of the answer; it is kept to the end."""
        if self._stays(value):
            return None, self.fixed(value)
        return self._register(value), None

    def finished(self) -> list[Step]:
        """Return the steps; each register is emptied after the last step that needs its storage."""
        owner = {register: value.storage for value, register in self._places.items()}
        answer = {
            leaf.storage for leaf in tree_leaves(self._recording.output) if isinstance(leaf, Value)
        }
        last: dict[int, _Moving] = {}
        for step in self._moving:
            for register in step.touched:
                last[owner[register]] = step
        for register, storage in owner.items():
            if storage not in answer:
                last[storage].drops.append(register)
        return self._steps

    def _stays(self, value: Value) -> bool:
        return value.storage in self._starts or value.storage in self._recording.outside

    def _place(self, value: Value) -> int:
        register = self._places[value] = len(self.registers)
        self.registers.append(None)
        self._of_storage.setdefault(value.storage, []).append(value)
        return register

    def _register(self, value: Value) -> int:
        """Return the register of a value; one that only a form reads is made from another of its storage."""
        if value not in self._places:
            base = next(v for v in self._of_storage[value.storage] if v.dtype == value.dtype)
            skipped = value.offset_bytes // value.dtype.itemsize
            args = (base, value.shape, value.strides, skipped)
            self._step(aten.as_strided.default, args, {}, ((0, self._place(value)),))
        return self._places[value]

    def _step(self, func: Any, args: Any, kwargs: Any, stores: tuple[tuple[int, int], ...]) -> None:
        fills: list[tuple[tuple[Any, ...], int]] = []

        def bound(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            return self.fixed(leaf) if self._stays(leaf) else _Hole(self._register(leaf))

        parts = tree_map(bound, (list(args), dict(kwargs)))
        for where, leaf in _paths(parts, ()):
            if isinstance(leaf, _Hole):
                fills.append((where, leaf.register))
        if not fills and not stores:
            self._steps.append(functools.partial(func, *parts[0], **parts[1]))
            return
        moving = _Moving(func, parts[0], parts[1], fills, stores, self.registers)
        self._moving.append(moving)
        self._steps.append(moving)


@dataclass(frozen=True)
class _Hole:
    """Where a register's tensor goes."""

    register: int


def _paths(tree: Any, before: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    """Return the leaves of nested lists, tuples and dicts with the keys that lead to them."""
    if isinstance(tree, list | tuple):
        return [found for i, part in enumerate(tree) for found in _paths(part, (*before, i))]
    if isinstance(tree, dict):
        return [found for key, part in tree.items() for found in _paths(part, (*before, key))]
    return [(before, tree)]


class _Moving:
    """A call that reads or gives tensors whose memory the allocator chooses in each pass."""

    __slots__ = ("_args", "_fills", "_func", "_kwargs", "_nested", "_registers", "_stores", "drops")

    def __init__(
        self,
        func: Any,
        args: list[Any],
        kwargs: dict[str, Any],
        fills: list[tuple[tuple[Any, ...], int]],
        stores: tuple[tuple[int, int], ...],
        registers: list[Any],
    ) -> None:
        self._func, self._args, self._kwargs = func, args, kwargs
        self._fills = [
            (path[1], register) for path, register in fills if len(path) == 2 and not path[0]
        ]
        self._nested = [fill for fill in fills if len(fill[0]) != 2 or fill[0][0]]
        self._stores, self._registers = stores, registers
        self.drops: list[int] = []

    @property
    def touched(self) -> list[int]:
        """The registers that it reads or fills."""
        read = [register for _, register in (*self._fills, *self._nested)]
        return [*read, *(register for _, register in self._stores)]

    def __call__(self) -> None:
        registers = self._registers
        args, kwargs = self._args.copy(), self._kwargs
        for place, register in self._fills:
            args[place] = registers[register]
        if self._nested:
            args, kwargs = _filled((args, kwargs), self._nested, registers)
        out = self._func(*args, **kwargs)
        if self._stores:
            leaves = (out,) if isinstance(out, Tensor) else tree_leaves(out)
            for index, register in self._stores:
                registers[register] = leaves[index]
        for register in self.drops:
            registers[register] = None


def _filled(tree: Any, fills: Sequence[tuple[tuple[Any, ...], int]], registers: list[Any]) -> Any:
    """Return a copy of nested arguments with registers' tensors where the paths lead."""
    holes = dict(fills)

    def rebuilt(part: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(part, list | tuple):
            return [rebuilt(one, (*path, i)) for i, one in enumerate(part)]
        if isinstance(part, dict):
            return {key: rebuilt(one, (*path, key)) for key, one in part.items()}
        return registers[holes[path]] if path in holes else part

    return rebuilt(tree, ())
