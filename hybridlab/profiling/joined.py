"""Joins what the profiler saw of a step with its op stream: times on the host, and kernels on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hybridlab.profiling.launched import DeviceEvent, by_call
from hybridlab.profiling.sweep import Call, Swept, outermost
from hybridlab.trace.stream import KERNELS, OPS, OpStream

_Seen = tuple[int, int, int]
"""When a call began after its step, how long it took, in ns, and its place among the calls."""


def joined(stream: OpStream, swept: Swept) -> tuple[OpStream, float, float | None]:
    """Give each operator the median start and length that the profiler saw, and what it started on a device.

    Operators are matched in order, by name, phase by phase; where the numbers differ from the profiler's, that name of
    that phase stays without a time.

    Returns:
        The stream, the share of operators that have a time, and the share of the device's time that has an operator;
        None where nothing ran on a device.
    """
    names = [name if "::" in name else f"aten::{name}" for name in stream.strings("op")]
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(stream.strings("phase"), names, strict=True)):
        rows.setdefault(key, []).append(row)
    calls = list(outermost(swept.calls, {*names, *(f"{name}_" for name in names)}))
    seen: dict[tuple[int, str, str], list[_Seen]] = {}
    for place, call in enumerate(calls):
        start = call.start_ns - swept.step_starts[call.step]
        seen.setdefault((call.step, call.phase, call.name), []).append((start, call.dur_ns, place))
    times = np.full((len(stream), 2), np.nan)
    of_rows: dict[int, list[int]] = {}
    for key, mine in rows.items():
        each = _equal(seen, len(swept.step_ns), key, len(mine))
        if each:
            times[mine] = np.median(np.array(each, dtype=float)[..., :2], axis=0) / 1e3
            for place, row in enumerate(mine):
                of_rows[row] = [step[place][2] for step in each]
    columns = {
        "start_us": pa.array(times[:, 0], pa.float64(), from_pandas=True),
        "dur_us": pa.array(times[:, 1], pa.float64(), from_pandas=True),
    }
    held = None
    if swept.launched:
        spans = [(call.start_ns, call.start_ns + call.dur_ns) for call in calls]
        started = by_call(swept.launched, spans)
        columns |= _kernels(len(stream), of_rows, started, calls, swept.step_starts)
        taken = {place for places in of_rows.values() for place in places}
        ran = sum(item.event.dur_ns for item in swept.launched)
        mine_ns = sum(event.dur_ns for place in taken for event in started.get(place, ()))
        held = mine_ns / max(1, ran)
    ops = stream.ops
    for column, values in columns.items():
        ops = ops.set_column(ops.schema.get_field_index(column), OPS.field(column), values)
    share = float(np.isfinite(times[:, 1]).mean()) if len(stream) else 1.0
    return OpStream(ops, stream.storages, "measured", stream.notes), share, held


def _kernels(
    count: int,
    of_rows: Mapping[int, Sequence[int]],
    started: Mapping[int, Sequence[DeviceEvent]],
    calls: Sequence[Call],
    step_starts: Sequence[int],
) -> dict[str, pa.Array]:
    """Return the columns of what operators started: the last step's, with medians over steps that did the same."""
    columns: dict[str, list[list[Any]]] = {name: [[] for _ in range(count)] for name in KERNELS}
    for row, places in of_rows.items():
        last = started.get(places[-1], ())
        if not last:
            continue
        alike = [
            [
                (event.start_ns - step_starts[calls[place].step], event.dur_ns)
                for event in started[place]
            ]
            for place in places
            if [event.name for event in started.get(place, ())] == [event.name for event in last]
        ]
        times = np.median(np.array(alike, dtype=float), axis=0) / 1e3
        columns["kernels"][row] = [event.name for event in last]
        columns["kernel_streams"][row] = [event.stream for event in last]
        columns["kernel_starts_us"][row] = times[:, 0].tolist()
        columns["kernel_us"][row] = times[:, 1].tolist()
    return {name: pa.array(values, OPS.field(name).type) for name, values in columns.items()}


def _equal(
    seen: dict[tuple[int, str, str], list[_Seen]],
    steps: int,
    key: tuple[str, str],
    wanted: int,
) -> list[list[_Seen]]:
    """Return what each step has of an operator, where the number is right; autograd adds up in place where it can."""
    for names in ((key[1],), (f"{key[1]}_",), (key[1], f"{key[1]}_")):
        each = [
            sorted(call for name in names for call in seen.get((step, key[0], name), []))
            for step in range(steps)
        ]
        each = [found for found in each if len(found) == wanted]
        if each:
            return each
    return []
