"""What a step only moves: copies and casts from component to component and within one, in bytes and milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from hybridlab.profiling.session import device_of, synchronize
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import record
from hybridlab.trace.handover import COPIES, moves
from hybridlab.trace.step import TrainingStep

_RUNS = 5


@dataclass(frozen=True)
class Border:
    """What operators that only move numbers read in one component of what another one wrote, or the same one.

    ``cast_bytes`` are those of them that change the number format; ``ms`` is the median of a few runs. ``inside`` is
    the operator that copies within itself (``planning.inside``), where it is one.
    """

    writer: str
    reader: str
    copied_bytes: int
    cast_bytes: int
    ms: float
    inside: str = ""


def borders(step: TrainingStep) -> tuple[Border, ...]:
    """Run a step a few times and return where it copies, most bytes first."""
    found = moves(record(step, "measured"))
    rows = sorted({row for one in found for row in one.rows})
    timed = [times for _ in range(_RUNS) if len(times := _copy_ms(step)) == len(rows)]
    each = (
        dict(zip(rows, map(statistics.median, zip(*timed, strict=True)), strict=True))
        if timed
        else {}
    )
    return tuple(
        Border(
            *(one.writer, one.reader, one.copied_bytes, one.cast_bytes),
            sum(each.get(row, 0.0) for row in one.rows),
        )
        for one in sorted(found, key=lambda one: -one.copied_bytes)
    )


def total_ms(found: Sequence[Border]) -> float:
    """Return the milliseconds of all copies."""
    return sum(one.ms for one in found)


def _copy_ms(step: TrainingStep) -> list[float]:
    clock = _Clock(step)
    with clock:
        step.run(Attribution({}))
    return clock.ms


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times each operator that only moves numbers."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device_of(step.model)
        self.ms: list[float] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func._schema.name.removeprefix("aten::") not in COPIES:
            return func(*args, **(kwargs or {}))
        synchronize(self.device)
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        synchronize(self.device)
        self.ms.append(1e3 * (time.perf_counter() - started))
        return result
