"""Which operator of a step started what ran on a device: the profiler gives the call and the kernel the same ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis.launches import places_of


@dataclass(frozen=True)
class DeviceEvent:
    """A kernel, a copy or a fill on a device, in ns.

    ``correlation`` is the id of the call of the runtime that started it, ``operator`` that of the operator which made
    the call; 0 where the profiler does not tell.
    """

    name: str
    start_ns: int
    dur_ns: int
    stream: int
    correlation: int = 0
    operator: int = 0


@dataclass(frozen=True)
class Launched:
    """What ran on a device, and when the host asked for it; None where nothing tells."""

    event: DeviceEvent
    asked_ns: int | None


Id = tuple[int, int]
"""An id and the ns at which what has it began on the host."""


def launched(
    events: Sequence[DeviceEvent], calls: Iterable[Id], operators: Iterable[Id]
) -> list[Launched]:
    """Return when what ran on a device was asked for, in the order of asking; what nothing tells of comes last.

    Args:
        events: what ran.
        calls: calls of the runtime by their correlation id.
        operators: operators by theirs; they count where the call itself was not recorded.
    """
    asked = _moments([event.correlation for event in events], list(calls))
    instead = _moments([event.operator for event in events], list(operators))
    found = [
        Launched(event, call if call is not None else operator)
        for event, call, operator in zip(events, asked, instead, strict=True)
    ]
    return sorted(found, key=_order)


def _order(item: Launched) -> tuple[bool, int, int]:
    return item.asked_ns is None, item.asked_ns or 0, item.event.start_ns


def _moments(wanted: list[int], known: list[Id]) -> list[int | None]:
    ids = np.array([one for one, _ in known], dtype=np.int64)
    places = places_of(np.array(wanted, dtype=np.int64), ids)
    return [
        known[place][1] if place >= 0 and number > 0 else None
        for place, number in zip(places.tolist(), wanted, strict=True)
    ]


def by_call(
    found: Sequence[Launched], spans_ns: Sequence[tuple[int, int]]
) -> dict[int, list[DeviceEvent]]:
    """Return what was asked for within each span (start, end), by the place of the span.

    Spans are in order and do not overlap; what was asked for between them belongs to none.
    """
    starts = [start for start, _ in spans_ns]
    started: dict[int, list[DeviceEvent]] = {}
    for item in found:
        if item.asked_ns is None:
            continue
        place = bisect_right(starts, item.asked_ns) - 1
        if place >= 0 and item.asked_ns < spans_ns[place][1]:
            started.setdefault(place, []).append(item.event)
    return started
