"""What operators copy inside of themselves, where no operator of the step shows it: a transform turns what it reads."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from hybridlab.architecture.model import GraphModel
from hybridlab.planning.borders import Border
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.handover import COPIES
from hybridlab.trace.step import TrainingStep

_PLACE = "hybridlab.place:"
_MOVES = COPIES | {"to"}
_BYTES = {
    "double": 8,
    "long int": 8,
    "c10::complex<float>": 8,
    "c10::complex<double>": 16,
    "c10::Half": 2,
    "c10::BFloat16": 2,
    "signed char": 1,
    "unsigned char": 1,
    "bool": 1,
}
_USUAL = 4


@dataclass
class _Open:
    """An operator or a component that is under way."""

    name: str
    end_ns: int
    place: str


def copied_inside(step: TrainingStep) -> tuple[Border, ...]:
    """Profile one run of a step and return what each operator copies inside of itself, by component, most bytes first.

    What runs backward belongs to no component here. Bytes are those that are read.
    """
    with _places(step.model), torch.random.fork_rng():
        step.run(Attribution({}))
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU], record_shapes=True
        ) as profiler:
            step.run(Attribution({}))
    assert profiler.profiler is not None
    events = list(profiler.profiler.kineto_results.events())
    found: dict[tuple[str, str], list[float]] = {}
    threads: dict[int, list[_Open]] = {}
    for event in sorted(events, key=lambda one: (one.start_ns(), -one.duration_ns())):
        under_way = threads.setdefault(event.start_thread_id(), [])
        while under_way and under_way[-1].end_ns <= event.start_ns():
            under_way.pop()
        name = event.name()
        place = under_way[-1].place if under_way else ""
        if name.startswith(_PLACE):
            place = name.removeprefix(_PLACE)
        if name == "aten::copy_":
            around = [one.name for one in under_way if _is_kernel(one.name)]
            if around:
                sums = found.setdefault((place, around[0]), [0.0, 0.0])
                sums[0] += _read_bytes(event)
                sums[1] += event.duration_ns() / 1e6
        under_way.append(_Open(name, event.start_ns() + event.duration_ns(), place))
    rows = [
        Border(place, place, int(read), 0, ms, operator.removeprefix("aten::"))
        for (place, operator), (read, ms) in found.items()
        if read
    ]
    return tuple(sorted(rows, key=lambda one: -one.copied_bytes))


@contextlib.contextmanager
def _places(model: nn.Module) -> Iterator[None]:
    """Let each component in its place show in a profile."""
    ranges: list[Any] = []

    def begin(path: str) -> Any:
        def before(module: nn.Module, inputs: Any) -> None:
            ranges.append(record_function(_PLACE + path))
            ranges[-1].__enter__()

        return before

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        ranges.pop().__exit__(None, None, None)

    slots = list(model.slots()) if isinstance(model, GraphModel) else []
    hooks = [slot.register_forward_pre_hook(begin(path)) for path, slot in slots]
    hooks += [slot.register_forward_hook(end, always_call=True) for _, slot in slots]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@functools.cache
def _is_kernel(name: str) -> bool:
    """Say whether an operator is one of a step's and not there to copy: one that is not put together of others."""
    space, _, short = name.partition("::")
    if short in _MOVES or space not in ("aten", "hybridlab"):
        return False
    overloads = _overloads().get(name, [])
    of_others = torch._C._dispatch_has_kernel_for_dispatch_key
    return not any(of_others(one, "CompositeImplicitAutograd") for one in overloads)


@functools.cache
def _overloads() -> dict[str, list[str]]:
    """Return the full names of all operators by those without the overload."""
    found: dict[str, list[str]] = {}
    for name in torch._C._dispatch_get_all_op_names():
        found.setdefault(name.partition(".")[0], []).append(name)
    return found


def _read_bytes(event: Any) -> int:
    shapes, dtypes = event.shapes(), event.dtypes()
    if len(shapes) < 2:
        return 0
    return int(math.prod(shapes[1]) * _BYTES.get(dtypes[1], _USUAL))
