"""Communication between devices: which kernels it is, and how much of it hides behind computation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.analysis.ranges import Ranges, intersection, union
from hybridlab.profiling.reading.trace import DEVICE, Ints, Kind, Mask, Trace


@dataclass(frozen=True)
class Communication:
    """Communication on the devices of one process, over the whole trace; times in µs.

    Attributes:
        overlap: share of the communication time in which kernels computed at the same time, or None without any.
    """

    kernels: int
    communication_us: float
    computation_us: float
    overlap_us: float

    @property
    def overlap(self) -> float | None:
        """Share of the communication that was hidden behind computation."""
        return self.overlap_us / self.communication_us if self.communication_us > 0 else None

    @property
    def exposed_us(self) -> float:
        """Communication during which nothing computed, in µs."""
        return self.communication_us - self.overlap_us


def collective_kernels(tree: HostTree, launched: Launches) -> Mask:
    """Return, for every event, whether it is a kernel of a collective operation.

    Either its name says so, or the operation that launched it does: by enclosing the launch, or by its external id.
    """
    trace = tree.trace
    events = trace.events
    kernels = events.kind == Kind.KERNEL
    found = kernels & trace.named(naming.is_collective_kernel)
    collective = trace.named(naming.is_collective)
    ranges = collective & np.isin(events.kind, (Kind.OPERATOR, Kind.ANNOTATION))
    ids = events.external[ranges & (events.external > 0)]
    copies = trace.named(lambda name: name.startswith(("Memcpy", "Memset")))
    if len(ids) and not _ids_are_correlations(trace):
        found |= kernels & np.isin(events.external, ids)
    inside = tree.nearest(ranges[tree.rows])
    known = launched.call != ROOT
    rows = launched.rows[known][inside[launched.call[known]] != ROOT]
    found[rows] |= kernels[rows]
    return np.asarray(found & ~copies)


def _ids_are_correlations(trace: Trace) -> bool:
    """Tell whether the trace repeats the correlation id as the external id of kernels, as Kineto did in 2022."""
    events = trace.events
    rows = events.of(Kind.KERNEL)
    return bool(len(rows)) and bool(np.array_equal(events.correlation[rows], events.external[rows]))


def roles(trace: Trace, collective: Mask) -> dict[str, Ranges]:
    """Return when each kind of work ran."""
    events = trace.events
    operator = np.isin(events.kind, (Kind.OPERATOR, Kind.ANNOTATION))
    loading = operator & trace.named(naming.is_loading)
    exchange = operator & trace.named(naming.is_collective)
    step = trace.named(naming.is_step)
    plain = (events.kind == Kind.OPERATOR) & ~loading & ~exchange & ~step
    masks = {
        "kernel": (events.kind == Kind.KERNEL) & ~collective,
        "memcpy": events.kind == Kind.MEMCPY,
        "memset": events.kind == Kind.MEMSET,
        "communication": collective | exchange,
        "runtime": events.kind == Kind.RUNTIME,
        "data_loader": loading,
        "operator": plain,
    }
    return {name: union(events.start_us[mask], events.end_us[mask]) for name, mask in masks.items()}


def communication(trace: Trace, collective: Mask) -> Communication:
    """Measure how much communication the computing kernels hide, on the devices alone."""
    events = trace.events
    computing = (events.kind == Kind.KERNEL) & ~collective
    one = union(events.start_us[computing], events.end_us[computing])
    other = union(events.start_us[collective], events.end_us[collective])
    both = intersection(one, other)
    return Communication(int(collective.sum()), other.total, one.total, both.total)


@dataclass(frozen=True)
class Breakdown:
    """Where the time between the first and the last thing on the devices went; times in µs."""

    span_us: float
    idle_us: float
    computation_us: float
    other_us: float


def breakdown(trace: Trace, collective: Mask) -> Breakdown | None:
    """Split device time into computation, idle, and the rest: copies, fills and communication nothing computed in."""
    events = trace.events
    rows: Ints = events.of(*DEVICE)
    if not len(rows):
        return None
    busy = union(events.start_us[rows], events.end_us[rows])
    computing = (events.kind == Kind.KERNEL) & ~collective
    work = union(events.start_us[computing], events.end_us[computing])
    span = float(busy.ends[-1] - busy.starts[0])
    return Breakdown(span, span - busy.total, work.total, busy.total - work.total)
