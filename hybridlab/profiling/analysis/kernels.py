"""The table of kernels, and how well they filled the devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.ranges import union, weighted_mean
from hybridlab.profiling.reading.trace import Floats, Ints, Kind, Trace


@dataclass(frozen=True)
class Kernel:
    """All calls of one kernel; times in µs.

    Attributes:
        blocks_per_sm, occupancy: means weighted by time, or None where the trace does not tell (AMD's do not).
            Occupancy is the estimate of Kineto, 0 to 100.
        matrix_cores: whether its name says that it uses tensor cores.
    """

    name: str
    calls: int
    total_us: float
    mean_us: float
    max_us: float
    min_us: float
    blocks_per_sm: float | None
    occupancy: float | None
    matrix_cores: bool


@dataclass(frozen=True)
class DeviceUse:
    """How one device was used between the start of the first and the end of the last step; shares are 0 to 1.

    Attributes:
        busy: share of the time in which a kernel ran.
        sm_efficiency: share of the multiprocessors that blocks kept busy, estimated from blocks per multiprocessor.
        occupancy: estimated achieved occupancy, 0 to 100, weighted by time.
        matrix_cores: share of kernel time in kernels that use tensor cores.
    """

    device: int
    kernels: int
    busy: float
    sm_efficiency: float | None
    occupancy: float | None
    matrix_cores: float


def kernels(trace: Trace) -> tuple[Kernel, ...]:
    """Sum the calls of each kernel, the longest first."""
    events = trace.events
    rows = events.of(Kind.KERNEL)
    order = rows[np.argsort(events.name[rows], kind="stable")]
    names, firsts = np.unique(events.name[order], return_index=True)
    found = []
    for name, part in zip(names, np.split(order, firsts[1:]), strict=False):
        times = events.dur_us[part]
        text = trace.names[name]
        found.append(
            Kernel(
                text,
                len(part),
                float(times.sum()),
                float(times.mean()),
                float(times.max()),
                float(times.min()),
                _told_mean(events.blocks_per_sm[part], times),
                _told_mean(events.occupancy[part], times),
                naming.uses_matrix_cores(text),
            )
        )
    return tuple(sorted(found, key=lambda kernel: (-kernel.total_us, kernel.name)))


def _told_mean(values: Floats, times: Floats) -> float | None:
    """Return the mean by time; a call that tells nothing counts as 0, as in torch-tb-profiler."""
    if np.isnan(values).all():
        return None
    return weighted_mean(np.nan_to_num(values), times)


def device_use(trace: Trace, span_us: tuple[float, float]) -> tuple[DeviceUse, ...]:
    """Return how each device that ran a kernel was used within a span of time."""
    events = trace.events
    rows = events.of(Kind.KERNEL)
    matrix = trace.named(naming.uses_matrix_cores)
    start, end = span_us
    length = end - start
    found = []
    for device in np.unique(events.device[rows]):
        mine = rows[events.device[rows] == device]
        busy = union(events.start_us[mine], events.end_us[mine]).within(start, end)
        times = events.dur_us[mine]
        found.append(
            DeviceUse(
                int(device),
                len(mine),
                busy / length if length > 0 else 0.0,
                _sm_efficiency(trace, mine, span_us),
                _occupancy(trace, mine, span_us),
                weighted_mean(matrix[mine].astype(np.float64), times),
            )
        )
    return tuple(found)


def _sm_efficiency(trace: Trace, rows: Ints, span_us: tuple[float, float]) -> float | None:
    """Add up the blocks per multiprocessor of the kernels that run at once, at most 1, and take the mean by time."""
    events = trace.events
    rows = rows[events.blocks_per_sm[rows] > 0]
    start, end = span_us
    if not len(rows) or end <= start:
        return None
    moments = np.concatenate((events.start_us[rows], events.end_us[rows]))
    change = np.concatenate((events.blocks_per_sm[rows], -events.blocks_per_sm[rows]))
    order = np.argsort(moments, kind="stable")
    moments, level = moments[order], np.cumsum(change[order])
    filled = np.clip(np.where(level > 1e-6, level, 0.0), 0.0, 1.0)[:-1]
    lengths = np.minimum(moments[1:], end) - np.maximum(moments[:-1], start)
    total = float((filled * np.maximum(lengths, 0.0)).sum())
    return total / (end - start) if total > 0 else None


def _occupancy(trace: Trace, rows: Ints, span_us: tuple[float, float]) -> float | None:
    events = trace.events
    rows = rows[events.occupancy[rows] >= 0]
    inside = np.minimum(events.end_us[rows], span_us[1]) - np.maximum(
        events.start_us[rows], span_us[0]
    )
    inside = np.maximum(inside, 0.0)
    mean = weighted_mean(events.occupancy[rows], inside)
    return None if not inside.sum() or math.isnan(mean) else mean
