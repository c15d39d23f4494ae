"""A trace in columns: what the analyses read, and nothing of how it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Ids = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


class Kind(IntEnum):
    """What an event is; the categories of Kineto since 2021, CUDA, ROCm and others, map to these."""

    OPERATOR = 0
    PYTHON = 1
    ANNOTATION = 2
    RUNTIME = 3
    KERNEL = 4
    MEMCPY = 5
    MEMSET = 6
    SYNC = 7
    DEVICE_ANNOTATION = 8
    SPAN = 9
    COUNTER = 10
    OVERHEAD = 11
    UNKNOWN = 12


HOST = (Kind.OPERATOR, Kind.PYTHON, Kind.ANNOTATION, Kind.RUNTIME)
DEVICE = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET)

CATEGORIES: Mapping[str, Kind] = {
    "cpu_op": Kind.OPERATOR,
    "operator": Kind.OPERATOR,
    "python": Kind.OPERATOR,
    "python_function": Kind.PYTHON,
    "user_annotation": Kind.ANNOTATION,
    "runtime": Kind.RUNTIME,
    "cuda_runtime": Kind.RUNTIME,
    "cuda_driver": Kind.RUNTIME,
    "hip_runtime": Kind.RUNTIME,
    "hip_driver": Kind.RUNTIME,
    "xpu_runtime": Kind.RUNTIME,
    "xpu_driver": Kind.RUNTIME,
    "mtia_runtime": Kind.RUNTIME,
    "privateuse1_runtime": Kind.RUNTIME,
    "privateuse1_driver": Kind.RUNTIME,
    "kernel": Kind.KERNEL,
    "memcpy": Kind.MEMCPY,
    "gpu_memcpy": Kind.MEMCPY,
    "memset": Kind.MEMSET,
    "gpu_memset": Kind.MEMSET,
    "cuda_sync": Kind.SYNC,
    "gpu_user_annotation": Kind.DEVICE_ANNOTATION,
    "trace": Kind.SPAN,
    "cuda_profiler_range": Kind.COUNTER,
    "overhead": Kind.OVERHEAD,
}
"""Categories in small letters; Kineto of 2021 wrote them with a capital."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events with a duration, in the order of the file; times in µs since ``Trace.base_us``.

    An id that an event does not give is -1, a figure that it does not give is NaN.
    """

    name: Ids
    category: Ids
    kind: NDArray[np.int8]
    thread: Ids
    start_us: Floats
    end_us: Floats
    dur_us: Floats
    correlation: Ints
    external: Ints
    stream: Ids
    device: Ids
    sequence: Ints
    forward_thread: Ints
    python_id: Ids
    python_parent: Ids
    module: Ids
    bytes: Ints
    blocks_per_sm: Floats
    occupancy: Floats

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.name)

    def of(self, *kinds: Kind) -> Ints:
        """Return the positions of all events of these kinds."""
        wanted = np.zeros(len(Kind), dtype=np.bool_)
        wanted[list(kinds)] = True
        return np.flatnonzero(wanted[self.kind])


@dataclass(frozen=True, eq=False)
class Allocations:
    """The memory events, ordered by time: bytes taken (positive) or given back, and totals where there are some."""

    time_us: Floats
    thread: Ids
    device_type: Ids
    device: Ids
    bytes: Ints
    address: Ints
    allocated: Ints
    reserved: Ints

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.time_us)


@dataclass(frozen=True, eq=False)
class Links:
    """Arrows from an operator of the forward pass to the one of its backward pass; a row an arrow."""

    forward_thread: Ids
    forward_us: Floats
    backward_thread: Ids
    backward_us: Floats

    def __len__(self) -> int:
        """Return the number of arrows."""
        return len(self.forward_us)


@dataclass(frozen=True, eq=False)
class Collectives:
    """What events tell of the operation between processes that they are, or are part of; a row an event that does.

    A number that an event does not give is -1.
    """

    row: Ids
    name: tuple[str, ...]
    dtype: tuple[str, ...]
    elements_in: Ints
    elements_out: Ints
    group_size: Ids

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.row)


@dataclass(frozen=True)
class Counted:
    """What the hardware counted during one range, by the name of the counter."""

    row: int
    counters: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class MemoryTimeline:
    """The raw memory timeline of ``export_memory_timeline``: time (ns, -1: before), action, bytes, category."""

    rows: Ints


@dataclass(frozen=True)
class Thread:
    """Where events lie: a thread of the host or a stream of a device, as the file calls them."""

    pid: int | str
    tid: int | str
    process: str = ""
    name: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """What the trace tells of one of its devices."""

    id: int
    name: str
    memory_bytes: int
    multiprocessors: int
    compute_capability: str


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace as it was read.

    Attributes:
        path: the file.
        base_us: what has been subtracted from all times, in µs.
        names: text of every id in ``events.name``.
        categories: text of every id in ``events.category``.
        threads: what every id in ``events.thread`` stands for.
        devices: the devices that were there, whether they were used or not.
        collectives: sizes of operations between processes.
        counted: counters of the hardware, a range each.
        rank, world_size: which process of how many, where it was a distributed run.
        timeline: the raw memory timeline, where the file is one; then there are no events.
        notes: what was odd, in sentences.
    """

    path: str
    base_us: float
    names: tuple[str, ...]
    categories: tuple[str, ...]
    threads: tuple[Thread, ...]
    events: Events
    memory: Allocations
    links: Links
    collectives: Collectives
    counted: tuple[Counted, ...] = ()
    devices: tuple[DeviceFacts, ...] = ()
    rank: int | None = None
    world_size: int | None = None
    schema: int | None = None
    timeline: MemoryTimeline | None = None
    notes: tuple[str, ...] = ()

    def named(self, rule: Callable[[str], Any]) -> Mask:
        """Return, for every event, whether its name satisfies a rule; the rule sees each name once."""
        flags = np.fromiter((bool(rule(name)) for name in self.names), np.bool_, len(self.names))
        return flags[self.events.name] if len(self.names) else np.zeros(0, dtype=np.bool_)

    @cached_property
    def has_device(self) -> bool:
        """Whether anything ran on a device."""
        return bool(np.isin(self.events.kind, DEVICE).any())
