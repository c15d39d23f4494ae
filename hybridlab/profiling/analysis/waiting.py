"""Why a device stood idle: the host was late, kernels waited to start, or something else; delays, and queues.

The definitions are those of HolisticTraceAnalysis
(https://hta.readthedocs.io/en/latest/source/features/idle_time_breakdown.html).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.reading.trace import Floats, Ints, Mask, Trace

KERNEL_WAIT_US = 30.0
"""A gap shorter than this, that the host is not to blame for, is what starting one kernel after another takes."""
_STARTS_KERNEL = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "hipLaunchKernel",
    "hipExtLaunchKernel",
    "hipModuleLaunchKernel",
    "hipExtModuleLaunchKernel",
)


@dataclass(frozen=True)
class Idle:
    """Gaps between what ran on one stream; times in µs.

    Attributes:
        host_wait_us: the call that started the next one came after the last had ended.
        kernel_wait_us: the call came in time, and the gap was short.
        other_us: the call came in time, and the gap was long: a dependency on another stream, for example.
    """

    device: int
    stream: int
    host_wait_us: float
    kernel_wait_us: float
    other_us: float


@dataclass(frozen=True)
class LaunchDelays:
    """Kernels and how long after their launch they began; times in µs.

    Attributes:
        short_kernels: kernels that took less time than the call that launched them.
        mean_us, median_us, p95_us: from the end of the call to the start of the kernel, at least 0.
    """

    kernels: int
    mean_us: float
    median_us: float
    p95_us: float
    max_us: float
    short_kernels: int


@dataclass(frozen=True, eq=False)
class Delays:
    """Launches of kernels: the kernel's position in ``Trace.events``, its delay, the call's and the kernel's time."""

    rows: Ints
    delay_us: Floats
    call_us: Floats
    kernel_us: Floats


@dataclass(frozen=True)
class Queue:
    """How many launched events of one stream had not begun; measured at every launch and every start."""

    device: int
    stream: int
    mean: float
    max: int


@dataclass(frozen=True, eq=False)
class QueueCurve:
    """The length of the queue of one stream; a point for every launch and every start."""

    device: int
    stream: int
    time_us: Floats
    length: Ints


def idle(
    tree: HostTree, launched: Launches, kernel_wait_us: float = KERNEL_WAIT_US
) -> tuple[Idle, ...]:
    """Split the idle time of each stream by its cause."""
    events = tree.trace.events
    called = _call_times(tree, launched)
    found = []
    for device, stream, mask in _streams(tree.trace, launched):
        rows, call = launched.rows[mask], called[mask]
        order = np.argsort(events.start_us[rows], kind="stable")
        rows, call = rows[order], call[order]
        gap = events.start_us[rows][1:] - events.end_us[rows][:-1]
        late = call[1:] > events.end_us[rows][:-1]
        short = ~late & (gap < kernel_wait_us)
        rest = ~late & ~short
        found.append(
            Idle(
                device,
                stream,
                float(gap[late].sum()),
                float(gap[short].sum()),
                float(gap[rest].sum()),
            )
        )
    return tuple(found)


def launch_delays(tree: HostTree, launched: Launches) -> LaunchDelays | None:
    """Measure from the end of each kernel's launch to its start."""
    found = delay_columns(tree, launched)
    delays = found.delay_us
    if not len(delays):
        return None
    return LaunchDelays(
        len(delays),
        float(delays.mean()),
        float(np.median(delays)),
        float(np.percentile(delays, 95)),
        float(delays.max()),
        int(np.count_nonzero(found.kernel_us < found.call_us)),
    )


def delay_columns(tree: HostTree, launched: Launches) -> Delays:
    """Return every launch of a kernel with its delay."""
    trace = tree.trace
    events = trace.events
    starts = trace.named(lambda name: name in _STARTS_KERNEL)[tree.rows]
    known = np.flatnonzero(launched.call != ROOT)
    known = known[starts[launched.call[known]]]
    rows, calls = launched.rows[known], launched.call[known]
    delay = np.maximum(events.start_us[rows] - tree.end_us[calls], 0.0)
    return Delays(rows, delay, tree.end_us[calls] - tree.start_us[calls], events.dur_us[rows])


def queues(tree: HostTree, launched: Launches) -> tuple[Queue, ...]:
    """Return mean and largest length of the queue of each stream."""
    return tuple(
        Queue(curve.device, curve.stream, float(curve.length.mean()), int(curve.length.max()))
        for curve in queue_curves(tree, launched)
    )


def queue_curves(tree: HostTree, launched: Launches) -> tuple[QueueCurve, ...]:
    """Count launches up and starts down, on each stream."""
    events = tree.trace.events
    called = _call_times(tree, launched)
    curves = []
    for device, stream, mask in _streams(tree.trace, launched):
        mask = mask & (launched.call != ROOT)
        if not mask.any():
            continue
        starts = events.start_us[launched.rows[mask]]
        moments = np.concatenate((called[mask], starts))
        change = np.concatenate((np.ones(len(starts)), -np.ones(len(starts))))
        order = np.argsort(moments, kind="stable")
        length = np.cumsum(change[order]).astype(np.int64)
        curves.append(QueueCurve(device, stream, moments[order], length))
    return tuple(curves)


def _call_times(tree: HostTree, launched: Launches) -> Floats:
    """Return when the call that started each device event began, NaN where it was not recorded."""
    if not len(tree):
        return np.full(len(launched.rows), np.nan)
    return np.where(launched.call == ROOT, np.nan, tree.start_us[np.maximum(launched.call, 0)])


def _streams(trace: Trace, launched: Launches) -> list[tuple[int, int, Mask]]:
    events = trace.events
    device, stream = events.device[launched.rows], events.stream[launched.rows]
    pairs = sorted(set(zip(device.tolist(), stream.tolist(), strict=True)))
    return [(d, s, (device == d) & (stream == s)) for d, s in pairs]
