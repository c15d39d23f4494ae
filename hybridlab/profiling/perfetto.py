"""A measured op stream as a trace that Perfetto and chrome://tracing open: a track a phase, and a stream of a device.

The format is Chrome's trace events (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from hybridlab.errors import Problem, RunError
from hybridlab.trace.stream import KERNELS, PHASES, OpStream

_PROCESS, _DEVICE = 1, 2
_COLUMNS = [
    "phase",
    "component",
    "op",
    "flops",
    "bytes_read",
    "bytes_written",
    "saved_bytes",
    "input_shapes",
    "output_shapes",
    "start_us",
    "dur_us",
    *KERNELS,
]
_SMALLEST_US = 0.001
"""A range must not end where it begins, or the operator inside it would stand beside it."""


def perfetto(stream: OpStream, name: str = "profile") -> bytes:
    """Return the JSON of a trace: operators with their component, work and shapes, inside ranges of their components.

    Times are medians over the profiled steps. Where they make two operators of a phase overlap, the later one begins
    where the earlier one ends.

    Raises:
        RunError: no operator has a measured time.
    """
    rows = [
        row
        for row in stream.ops.select(_COLUMNS).to_pylist()
        if row["start_us"] is not None
        and math.isfinite(row["start_us"])
        and math.isfinite(row["dur_us"])
    ]
    if not rows:
        raise RunError(Problem("stream", "has no measured times", "the op stream of a profile"))
    events = [_named("process_name", 0, name)]
    for track, phase in enumerate(PHASES, 1):
        mine = sorted(
            (row for row in rows if row["phase"] == phase), key=lambda row: row["start_us"]
        )
        if mine:
            events.append(_named("thread_name", track, phase))
            events += _track(mine, track)
    events += _on_device(rows)
    return msgspec.json.encode({"schemaVersion": 1, "traceName": name, "traceEvents": events})


def _on_device(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what operators started on a device, a track a stream; where medians overlap, the later one waits."""
    ran = [
        (start, us, stream, name, row)
        for row in rows
        for name, stream, start, us in zip(*(row[column] or () for column in KERNELS), strict=True)
    ]
    free_us: dict[int, float] = {}
    if ran:
        yield _named("process_name", 0, "device", _DEVICE)
    for start, us, stream, name, row in sorted(ran, key=lambda item: item[:2]):
        if stream not in free_us:
            yield _named("thread_name", stream, f"stream {stream}", _DEVICE)
        begin = max(start, free_us.get(stream, -math.inf))
        end = max(start + us, begin + _SMALLEST_US)
        free_us[stream] = end
        yield {
            "ph": "X",
            "cat": "kernel",
            "name": name,
            "pid": _DEVICE,
            "tid": stream,
            "ts": begin,
            "dur": end - begin,
            "args": {"stream": stream, "component": row["component"], "operator": row["op"]},
        }


def _named(what: str, track: int, name: str, process: int = _PROCESS) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": track, "ts": 0, "args": {"name": name}}


def _track(rows: list[dict[str, Any]], track: int) -> Iterator[dict[str, Any]]:
    """Yield a phase's operators, each run of one component's inside a range with its name."""
    free_us = -math.inf
    inside: list[dict[str, Any]] = []
    for row in rows:
        start = max(row["start_us"], free_us)
        end = max(row["start_us"] + row["dur_us"], start + _SMALLEST_US)
        if inside and inside[-1]["args"]["component"] != row["component"]:
            yield from _range(inside, track)
            inside = []
        inside.append(_operator(row, start, end - start, track))
        free_us = end
    yield from _range(inside, track)


def _operator(row: dict[str, Any], start: float, dur: float, track: int) -> dict[str, Any]:
    shown = {
        name: row[name]
        for name in ("component", "phase", "flops", "bytes_read", "bytes_written", "saved_bytes")
    }
    return {
        "ph": "X",
        "cat": "cpu_op",
        "name": f"aten::{row['op']}" if "::" not in row["op"] else row["op"],
        "pid": _PROCESS,
        "tid": track,
        "ts": start,
        "dur": dur,
        "args": {
            **shown,
            "Input Dims": row["input_shapes"],
            "Output Dims": row["output_shapes"],
        },
    }


def _range(inside: list[dict[str, Any]], track: int) -> Iterator[dict[str, Any]]:
    last = inside[-1]
    yield {
        "ph": "X",
        "cat": "user_annotation",
        "name": inside[0]["args"]["component"],
        "pid": _PROCESS,
        "tid": track,
        "ts": inside[0]["ts"],
        "dur": last["ts"] + last["dur"] - inside[0]["ts"],
        "args": {"component": inside[0]["args"]["component"], "operators": len(inside)},
    }
    yield from inside
