"""Memory over time, by device, from the allocations a trace records; or by category from a raw memory timeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.reading.trace import Floats, Ints, MemoryTimeline, Trace

CATEGORIES = (
    "parameter",
    "optimizer_state",
    "input",
    "temporary",
    "activation",
    "gradient",
    "autograd_detail",
    "unknown",
)
"""In the order of ``torch.profiler._memory_profiler``, whose numbers the raw timeline has."""
_CPU = 0


@dataclass(frozen=True)
class Fragmentation:
    """What torch's allocator holds of a device and no tensor uses: reserved minus allocated, in bytes.

    Attributes:
        most_bytes: the largest there was, and ``most_us`` when.
        mean_bytes: over time, from the first event to the last.
        at_peak_bytes: at the moment when most was allocated.
        mean_share: of what is reserved, over time, 0 to 1.
    """

    most_bytes: int
    most_us: float
    mean_bytes: float
    at_peak_bytes: int
    mean_share: float


def fragmentation(time_us: Floats, allocated: Ints, reserved: Ints) -> Fragmentation:
    """Return what reserved minus allocated says over time; each event holds until the next."""
    unused = reserved - allocated
    most = int(unused.argmax())
    lasts = np.maximum(np.diff(time_us, append=time_us[-1]), 0.0)
    if not lasts.sum():
        lasts = np.ones(len(time_us))
    mean = float(np.average(unused, weights=lasts))
    held = float(np.average(reserved, weights=lasts))
    return Fragmentation(
        int(unused[most]),
        float(time_us[most]),
        mean,
        int(unused[allocated.argmax()]),
        mean / held if held else 0.0,
    )


@dataclass(frozen=True, eq=False)
class MemoryCurve:
    """Bytes on one device over time.

    Attributes:
        device: ``cpu``, or ``device 0``.
        absolute: whether the trace gives totals; if not, bytes count from the beginning of the trace.
        time_us, allocated_bytes: the curve, a point an event.
        reserved_bytes: what the allocator holds of the device, where the trace tells.
        peak_bytes: largest of ``allocated_bytes``.
        allocations: how many times memory was taken.
        fragmentation: reserved minus allocated over time, where the trace tells both.
    """

    device: str
    absolute: bool
    time_us: Floats
    allocated_bytes: Ints
    reserved_bytes: Ints | None
    peak_bytes: int
    peak_reserved_bytes: int | None
    allocations: int
    fragmentation: Fragmentation | None = None


def memory_curves(trace: Trace) -> tuple[MemoryCurve, ...]:
    """Return one curve for each device that memory events name, the host first."""
    memory = trace.memory
    keys = memory.device_type.astype(np.int64) * 4096 + memory.device
    curves = []
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        kind = int(memory.device_type[rows[0]])
        name = "cpu" if kind == _CPU else f"device {int(memory.device[rows[0]])}"
        absolute = bool((memory.allocated[rows] >= 0).all())
        allocated = memory.allocated[rows] if absolute else np.cumsum(memory.bytes[rows])
        reserved = memory.reserved[rows]
        has_reserved = kind != _CPU and bool((reserved >= 0).all())
        curves.append(
            MemoryCurve(
                name,
                absolute,
                memory.time_us[rows],
                allocated,
                reserved if has_reserved else None,
                int(allocated.max()),
                int(reserved.max()) if has_reserved else None,
                int(np.count_nonzero(memory.bytes[rows] > 0)),
                fragmentation(memory.time_us[rows], allocated, reserved)
                if absolute and has_reserved
                else None,
            )
        )
    return tuple(curves)


@dataclass(frozen=True, eq=False)
class TimelineCurve:
    """Bytes by category over time, from a raw memory timeline.

    Attributes:
        time_ns: moments at which something changed; what was there before has the first moment.
        bytes: a row a moment, a column for each of ``CATEGORIES``.
        peak_bytes: the largest sum over categories, and ``at_peak`` what it is made of.
    """

    time_ns: Ints
    bytes: Ints
    peak_bytes: int
    at_peak: dict[str, int]


def timeline_curve(timeline: MemoryTimeline) -> TimelineCurve:
    """Add the changes of a raw memory timeline up."""
    time, _, change, category = timeline.rows.T
    known = np.clip(category, 0, len(CATEGORIES) - 1)
    first = int(time[time >= 0].min(initial=np.iinfo(np.int64).max))
    moments = np.where(time < 0, first if (time >= 0).any() else 0, time)
    new = np.flatnonzero(np.diff(moments, prepend=moments[0] - 1))
    steps = np.zeros((len(time), len(CATEGORIES)), dtype=np.int64)
    steps[np.arange(len(time)), known] = change
    levels = np.cumsum(steps, axis=0)[np.append(new[1:] - 1, len(time) - 1)]
    totals = levels.sum(axis=1)
    peak = int(totals.argmax())
    return TimelineCurve(
        moments[new],
        levels,
        int(totals[peak]),
        dict(zip(CATEGORIES, (int(x) for x in levels[peak]), strict=True)),
    )
