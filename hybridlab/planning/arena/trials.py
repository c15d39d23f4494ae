"""Tries on the tensors of a pass whether operators' results can be written to given memory, bit by bit the same.

A form counts where it takes no more memory than the plain operator does without its results; the profiler's memory
events tell. One call of each kind is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils._pytree import tree_leaves, tree_map

from hybridlab.planning.arena.buffer import taken_bytes
from hybridlab.planning.arena.calls import ASIDE, NO_FORM, OTHER_BITS, RANDOM, Call
from hybridlab.planning.arena.values import Value, tensor_in
from hybridlab.planning.arena.writing import writing

_TRIAL = "arena trial "
_SLACK_BYTES = 1024
"""What a form may take beside its results, for numbers that become tensors."""
_POISON = 0xA5
"""What memory is filled with before a form writes to it."""


@dataclass
class _Trial:
    """A form that is tried: its memory is read off the profiler's events when the pass is over."""

    number: int
    output_bytes: int
    same: bool = False
    why: str = ""


class Trials:
    """Forms that are tried while a pass is recorded under the profiler."""

    def __init__(self) -> None:
        """Begin with none."""
        self._trials: dict[Any, _Trial] = {}
        self._tried: list[tuple[Call, _Trial]] = []

    def plain(self, number: int) -> AbstractContextManager[object]:
        """Mark the plain run of a call."""
        return record_function(f"{_TRIAL}plain {number}")

    def take(
        self,
        call: Call,
        number: int,
        out: Any,
        memory: Mapping[int, torch.UntypedStorage],
        sizes: Sequence[int],
    ) -> None:
        """Give a call the form that writes its results, and try it unless one of its kind was tried.

        Args:
            call: what ran.
            number: its place in the pass.
            out: what it gave.
            memory: the storages of what it was given.
            sizes: bytes of all storages.
        """
        outputs = [leaf for leaf in tree_leaves(call.outputs) if isinstance(leaf, Value)]
        whole = {value.storage for value in outputs} == set(call.made)
        call.forms = writing(call.func, call.args, call.kwargs, outputs) if whole else None
        if call.forms is None:
            call.why = NO_FORM
        elif torch.Tag.nondeterministic_seeded in call.func.tags:
            call.forms, call.why = None, RANDOM
        elif call.forms:
            kind = _kind(call)
            if kind not in self._trials:
                real = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
                trial = _Trial(number, sum(sizes[storage] for storage in call.made))
                poisoned = {
                    storage: taken_bytes(sizes[storage], real[0].device, _POISON)
                    for storage in call.made
                }
                self._trials[kind] = trial
                _run(trial, call, {**memory, **poisoned}, outputs, real)
            self._tried.append((call, self._trials[kind]))

    def judge(self, events: Iterable[Any]) -> None:
        """Take the forms back that take memory aside or give other bits; ``events`` are the profiler's."""
        memory, windows = [], {}
        for event in events:
            name = event.name()
            if name == "[memory]":
                memory.append((event.start_ns(), event.nbytes()))
            elif name.startswith(_TRIAL):
                windows[name.removeprefix(_TRIAL)] = (event.start_ns(), event.end_ns())
        memory.sort()
        for trial in self._trials.values():
            plain, given = (
                _most(memory, windows.get(f"{kind} {trial.number}")) for kind in ("plain", "given")
            )
            if trial.why:
                continue
            if plain is None or given is None:
                trial.why = NO_FORM
            elif given + trial.output_bytes > plain + _SLACK_BYTES:
                trial.why = ASIDE
            elif not trial.same:
                trial.why = OTHER_BITS
        for call, trial in self._tried:
            if trial.why:
                call.forms, call.why = None, trial.why


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are of one shape and dtype and equal bit by bit, NaN and signs of zero included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.numel():
        return True
    left, right = (
        x.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8) for x in (a, b)
    )
    return torch.equal(left, right)


def _run(
    trial: _Trial,
    call: Call,
    memory: Mapping[int, torch.UntypedStorage],
    outputs: list[Value],
    real: list[Tensor],
) -> None:
    """Run a call's forms on its tensors, and compare what they leave with what the call gave."""

    def bound(tree: Any) -> Any:
        return tree_map(
            lambda leaf: tensor_in(memory[leaf.storage], leaf) if isinstance(leaf, Value) else leaf,
            tree,
        )

    ready = [(form.func, bound(form.args), bound(form.kwargs)) for form in call.forms or ()]
    try:
        with record_function(f"{_TRIAL}given {trial.number}"):
            for func, args, kwargs in ready:
                func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        trial.why = f"{NO_FORM}: {said[:80]}"
        return
    trial.same = all(
        same_bits(tensor_in(memory[value.storage], value), tensor)
        for value, tensor in zip(outputs, real, strict=True)
    )


def _kind(call: Call) -> Any:
    """Return what calls share whose forms behave alike: operator, shapes, strides, dtypes and plain arguments."""
    leaves = tree_leaves([call.args, call.kwargs, call.outputs])
    return (
        call.func,
        tuple(leaf.alike if isinstance(leaf, Value) else repr(leaf) for leaf in leaves),
    )


def _most(memory: list[tuple[int, int]], window: tuple[int, int] | None) -> int | None:
    """Return the most bytes that were allocated at once within a window; None where there was no window."""
    if window is None:
        return None
    now = most = 0
    for moment, change in memory:
        if window[0] <= moment <= window[1]:
            now += change
            most = max(most, now)
    return most
