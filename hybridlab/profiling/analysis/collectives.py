"""Operations between processes, one by one kind and size: how often, how long, how many bytes.

Where an event does not tell its size, the range around its launch may (``record_param_comms``); older traces tell none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.groundwork import Groundwork
from hybridlab.profiling.analysis.host import ROOT
from hybridlab.profiling.analysis.ranges import union
from hybridlab.profiling.reading.trace import Floats, Ints, Kind

_BYTES = {"byte": 1, "char": 1, "bool": 1, "short": 2, "half": 2, "bfloat16": 2}
_BYTES |= {"int": 4, "float": 4, "long": 8, "double": 8}
_BYTES |= {"uint16": 2, "uint32": 4, "uint64": 8, "complexfloat": 8, "complexdouble": 16}


@dataclass(frozen=True)
class Collective:
    """All calls of one operation with messages of one size; times in µs, on the device.

    Attributes:
        processes: how many take part, or None where the trace does not tell.
        message_bytes: the larger of what one process sends and gets in a call, or None where the trace does not tell.
        exposed_us: time in which no other kernel computed.
        gbytes_per_s: ``message_bytes`` by the mean time; the time counts waiting for the other processes too.
    """

    name: str
    dtype: str
    processes: int | None
    calls: int
    message_bytes: int | None
    total_us: float
    mean_us: float
    max_us: float
    exposed_us: float
    gbytes_per_s: float | None


def collectives(ground: Groundwork) -> tuple[Collective, ...]:
    """Sum the kernels of operations between processes by operation and size, the longest first."""
    events = ground.trace.events
    rows = np.flatnonzero(ground.collective)
    if not len(rows):
        return ()
    exposed = _exposed(ground, rows)
    groups: dict[tuple[str, str, int, int], list[int]] = {}
    for at, key in enumerate(_keys(ground, rows)):
        groups.setdefault(key, []).append(at)
    found = []
    for (name, dtype, elements, processes), members in groups.items():
        times = events.dur_us[rows[members]]
        mean = float(times.mean())
        item = _BYTES.get(dtype.lower())
        size = elements * item if elements >= 0 and item else None
        found.append(
            Collective(
                name,
                dtype,
                processes if processes > 0 else None,
                len(members),
                size,
                float(times.sum()),
                mean,
                float(times.max()),
                float(exposed[members].sum()),
                size / mean / 1e3 if size is not None and mean > 0 else None,
            )
        )
    return tuple(sorted(found, key=lambda row: (-row.total_us, row.name, row.message_bytes or 0)))


def _keys(ground: Groundwork, rows: Ints) -> list[tuple[str, str, int, int]]:
    """Return name, type, elements and number of processes of each kernel."""
    trace, tree, told = ground.trace, ground.tree, ground.trace.collectives
    at_event = {int(row): at for at, row in enumerate(told.row)}
    sized = np.zeros(len(tree), dtype=np.bool_)
    on_host = [position for row in told.row if (position := int(tree.position[row])) != ROOT]
    sized[on_host] = True
    around = tree.nearest(sized)
    ranges = trace.named(naming.is_collective)[tree.rows]
    named = tree.nearest(ranges)
    call_of = dict(zip(ground.launched.rows.tolist(), ground.launched.call.tolist(), strict=True))
    keys = []
    for row in rows.tolist():
        call = call_of.get(row, ROOT)
        at = at_event.get(row)
        if at is None and call != ROOT and around[call] != ROOT:
            at = at_event[int(tree.rows[around[call]])]
        if at is not None:
            elements = max(int(told.elements_in[at]), int(told.elements_out[at]))
            keys.append((told.name[at], told.dtype[at], elements, int(told.group_size[at])))
            continue
        inside = named[call] if call != ROOT else ROOT
        event = tree.rows[inside] if inside != ROOT else row
        name = trace.names[trace.events.name[event]]
        keys.append((name.partition(":")[2] or name if inside != ROOT else name, "", -1, -1))
    return keys


def _exposed(ground: Groundwork, rows: Ints) -> Floats:
    """Return for how long each kernel ran while nothing computed."""
    events = ground.trace.events
    computing = (events.kind == Kind.KERNEL) & ~ground.collective
    busy = union(events.start_us[computing], events.end_us[computing])
    before = np.concatenate(([0.0], np.cumsum(busy.ends - busy.starts)))

    def until(moments: Floats) -> Floats:
        if not len(busy):
            return np.zeros(len(moments))
        at = np.searchsorted(busy.starts, moments, side="right")
        last = np.maximum(at - 1, 0)
        over = np.where(at > 0, np.maximum(busy.ends[last] - moments, 0.0), 0.0)
        return np.asarray(before[at] - over)

    start, end = events.start_us[rows], events.end_us[rows]
    return np.asarray((end - start) - (until(end) - until(start)))
