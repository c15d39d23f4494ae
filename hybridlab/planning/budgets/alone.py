"""One instruction of a step alone, on what it reads there: what it keeps for backward, its peaks, and its times.

Its inputs are copies that nobody else holds, and its output goes as soon as its gradients are known, so what stands
between forward and backward is what the instruction itself keeps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, record_function

from hybridlab.planning.segments.alone import Source
from hybridlab.profiling.session import kind_of, synchronize
from hybridlab.profiling.sweep import MEMORY_EVENT
from hybridlab.trace.step import Phase

Runs = Callable[[list[Tensor]], Sequence[Tensor]]
"""Runs an instruction on its inputs, a list that it may empty: its output, and the losses that it asks for."""
_MARK = "hybridlab.budgets:"


@dataclass(frozen=True)
class Taken:
    """What an instruction takes, in bytes beside its inputs and the gradients that have come to it.

    ``keeps`` says of each input whether it stays for backward, ``passes`` whether its gradient is the very one of the
    output; ``keeps_output`` whether the output stays, which has ``output_bytes``; ``inner_bytes`` is what else stays.
    ``ahead_bytes`` is the most that stands in forward, and ``back_bytes`` the same of backward beside what was kept;
    ``held_bytes`` is the latter where others hold what it reads and the gradient that has come, so that neither goes.
    """

    keeps: tuple[bool, ...]
    passes: tuple[bool, ...]
    keeps_output: bool
    output_bytes: int
    inner_bytes: int
    ahead_bytes: int
    back_bytes: int
    held_bytes: int
    ahead_us: float = 0.0
    back_us: float = 0.0

    @property
    def both_us(self) -> float:
        """Microseconds forward and backward."""
        return self.ahead_us + self.back_us


class _Root(torch.autograd.Function):
    """Stands for everything behind: reads outputs without keeping them, and gives their gradients."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *outputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return torch.zeros((), device=outputs[0].device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        given = tuple(ctx.gradients)
        ctx.gradients.clear()
        return None, *given


class Lone:
    """An instruction with what it reads, run forward and backward as often as wanted.

    Inputs that require gradients get some; the gradients of weights are made as in a step, and taken away again.
    """

    def __init__(
        self,
        runs: Runs,
        inputs: Sequence[Tensor],
        weights: Iterable[Tensor] = (),
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """Know it; nothing runs yet."""
        self._runs, self._inputs, self._weights = runs, list(inputs), list(weights)
        self._around = around
        self._device = inputs[0].device
        self._gradients: list[Tensor] | None = None
        self._keeps: tuple[bool, ...] = ()
        self._passed: set[int] = set()
        """The inputs whose gradient was the output's."""
        self._came: Any = None
        """The output's gradient."""
        self._keeps_output = False
        self._output_bytes = self._root_bytes = 0

    def warm(self, *, stirred: bool = False) -> None:
        """Run it once; ``stirred``: on inputs that are a little off, so that what depends on values changes."""
        self._once(stirred=stirred)

    def taken(self) -> Taken:
        """Measure its bytes by the profiler's memory events; its times are those of ``timed``."""
        _, _, held = self._watched(holding=True)
        ahead, kept, back = self._watched(holding=False)
        sizes = [one.untyped_storage().nbytes() for one in self._inputs]
        gone = sum(size for size, keeps in zip(sizes, self._keeps, strict=True) if not keeps)
        inner = kept + gone - (self._output_bytes if self._keeps_output else 0) - self._root_bytes
        passes = tuple(index in self._passed for index in range(len(sizes)))
        sides = self._keeps_output, self._output_bytes, max(0, inner)
        return Taken(self._keeps, passes, *sides, ahead, back, held)

    def timed(self) -> tuple[float, float]:
        """Run it once; return the microseconds of forward and of backward."""
        ahead_s, back_s = self._once()
        return 1e6 * ahead_s, 1e6 * back_s

    def _watched(self, *, holding: bool) -> tuple[int, int, int]:
        """Return the highest level of forward, what stands between, and the highest of backward beside that."""
        activities = [ProfilerActivity.CPU]
        if self._device.type != "cpu":
            activities.append(getattr(ProfilerActivity, self._device.type.upper()))
        for _ in range(2):  # the profiler's own first time does not count
            with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
                self._once(lambda name: record_function(f"{_MARK}{name}"), holding=holding)
        assert profiler.profiler is not None
        return _levels(profiler.profiler.kineto_results, kind_of(self._device))

    def _once(
        self,
        phase: Phase = lambda name: contextlib.nullcontext(),
        *,
        stirred: bool = False,
        holding: bool = False,
    ) -> tuple[float, float]:
        """Run it; return the seconds of forward and of backward. ``holding``: nothing goes that it is given."""
        given, held = self._given(stirred)
        gradients = [one.clone() for one in self._gradients or ()]
        holds = [*given, *gradients] if holding else []
        with torch.random.fork_rng(devices=[]):
            synchronize(self._device)
            with phase("begin"):
                began = time.perf_counter()
            with self._around():
                outputs = list(self._runs(given))
            synchronize(self._device)
            ahead_s = time.perf_counter() - began
            with phase("ran"):
                given.clear()
            learning = [one for one in outputs if one.requires_grad]
            written = _watch(outputs[0])
            self._output_bytes = outputs[0].untyped_storage().nbytes()
            if self._gradients is None:
                self._gradients = [torch.randn_like(one) for one in learning]
                gradients = [one.clone() for one in self._gradients]
            self._came = _watch(gradients[0]) if gradients else None
            root = None
            if learning:
                root = _Root.apply(gradients, *learning)  # type: ignore[no-untyped-call]
                self._root_bytes = root.nbytes
            del outputs, learning
            self._keeps = tuple(not one.expired() for one in held)
            self._keeps_output = not written.expired()
            with phase("kept"):
                began = time.perf_counter()
            if root is not None:
                root.backward()
            synchronize(self._device)
            back_s = time.perf_counter() - began
            with phase("end"):
                holds.clear()
        for weight in self._weights:
            weight.grad = None
        return ahead_s, back_s

    def _given(self, stirred: bool) -> tuple[list[Tensor], list[Any]]:
        """Return fresh copies of the inputs, and what tells whether they are still there."""
        anchor = torch.zeros((), device=self._device, requires_grad=True)
        boxes = [[one.detach().clone()] for one in self._inputs]
        for (copy,) in boxes:
            if stirred and copy.is_floating_point():
                copy += torch.randn_like(copy) * copy.std(correction=0)
        given = [
            Source.apply(anchor, box, self._arriving(index))  # type: ignore[no-untyped-call]
            if one.requires_grad
            else box.pop()
            for index, (box, one) in enumerate(zip(boxes, self._inputs, strict=True))
        ]
        return given, [_watch(one) for one in given]

    def _arriving(self, index: int) -> Callable[[Any], None]:
        def arrived(gradient: Tensor | None) -> None:
            if gradient is None or self._came is None:
                return
            if _watch(gradient) == self._came:
                self._passed.add(index)
            else:
                self._passed.discard(index)

        return arrived


def _watch(tensor: Tensor) -> Any:
    """Return what tells whether a tensor's storage is still there, and which one it is."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _levels(results: Any, kind: Any) -> tuple[int, int, int]:
    """Return the highest level of forward, what stands between, and the highest of backward beside that."""
    marks: dict[str, int] = {}
    changes: list[tuple[int, int]] = []
    for event in results.events():
        name = event.name()
        if name == MEMORY_EVENT and event.device_type() == kind:
            changes.append((event.start_ns(), event.nbytes()))
        elif name.startswith(_MARK):
            marks[name.removeprefix(_MARK)] = event.start_ns()
    level, ahead, kept, back = 0, 0, 0, 0
    for at, size in sorted(changes, key=lambda one: one[0]):
        if not marks["begin"] <= at <= marks["end"]:
            continue
        level += size
        if at <= marks["ran"]:
            ahead = max(ahead, level)
        if at <= marks["kept"]:
            kept = level
        else:
            back = max(back, level - kept)
    return ahead, kept, back
