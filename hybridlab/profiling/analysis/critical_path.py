"""The chain of work that decided how long a step took, followed backwards from its end.

What ran last on a device started when the one before it on its stream was done, or, if that was earlier, when the host
launched it; the host had got there when it went on after its last wait, and that wait ended with what ran on a device
then. The edges are those of HolisticTraceAnalysis
(https://hta.readthedocs.io/en/latest/source/features/lightweight_critical_path_analysis.html), but for events that make
one stream wait for another: where a trace lacks them, as most do, that wait shows as a delay between kernels.
All threads of the host count as one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.reading.trace import Kind

_WAITS = ("Synchronize", "cudaMemcpy", "hipMemcpy")
_LONGEST = 20
_KINDS = {Kind.KERNEL: "kernel", Kind.MEMCPY: "copy", Kind.MEMSET: "copy"}
KINDS = ("host", "kernel", "copy", "launch_delay", "kernel_delay", "wait", "unknown")


@dataclass(frozen=True)
class CriticalPath:
    """The critical path of one step; times in µs.

    Attributes:
        by_kind: µs of each of ``KINDS``; they add up to the step. ``launch_delay`` lies between the start of a launch
            and its kernel, ``kernel_delay`` between kernels of one stream, ``wait`` between the end of the work that
            the host waited for and its going on; ``unknown`` is before work whose launch was not recorded.
        longest: names of kernels and copies on the path with their µs, the longest first.
    """

    step: str
    duration_us: float
    by_kind: dict[str, float]
    longest: tuple[tuple[str, float], ...]

    @property
    def bound_by(self) -> str:
        """The kind that takes the largest part."""
        return max(self.by_kind, key=lambda kind: self.by_kind[kind])


def critical_path(
    tree: HostTree, launched: Launches, step: str, span_us: tuple[float, float]
) -> CriticalPath:
    """Follow the critical path of one step back from its end to its start."""
    walk = _Walk(tree, launched, span_us)
    walk.follow()
    longest = sorted(walk.named.items(), key=lambda item: -item[1])[:_LONGEST]
    names = tree.trace.names
    return CriticalPath(
        step,
        span_us[1] - span_us[0],
        {kind: walk.kinds[kind] for kind in KINDS},
        tuple((names[name], us) for name, us in longest),
    )


class _Walk:
    """The device events and waits of a step in order, and a place in time that goes back."""

    def __init__(self, tree: HostTree, launched: Launches, span_us: tuple[float, float]) -> None:
        events = tree.trace.events
        self.begin, self.now = span_us
        self.kinds: dict[str, float] = defaultdict(float)
        self.named: dict[int, float] = defaultdict(float)
        inside = (events.start_us[launched.rows] >= self.begin) & (
            events.end_us[launched.rows] <= self.now
        )
        rows, call = launched.rows[inside], launched.call[inside]
        order = np.lexsort((events.start_us[rows], events.stream[rows], events.device[rows]))
        rows, call = rows[order], call[order]
        self.rows = rows
        self.start, self.end = events.start_us[rows], events.end_us[rows]
        known = call != ROOT
        self.called = np.full(len(rows), np.nan)
        self.called[known] = tree.start_us[call[known]]
        same = (events.stream[rows][1:] == events.stream[rows][:-1]) & (
            events.device[rows][1:] == events.device[rows][:-1]
        )
        self.before = np.where(
            np.append([False], same)[: len(rows)], np.arange(len(rows)) - 1, ROOT
        )
        self.by_end = np.argsort(self.end, kind="stable")
        self.ends = self.end[self.by_end]
        self.kind, self.name = events.kind[rows], events.name[rows]
        waits = tree.trace.named(lambda name: any(word in name for word in _WAITS))[tree.rows]
        waits &= (tree.kind == Kind.RUNTIME) & (tree.end_us > self.begin)
        found = np.flatnonzero(waits)
        found = found[np.argsort(tree.end_us[found], kind="stable")]
        self.wait_start, self.wait_end = tree.start_us[found], tree.end_us[found]
        self.waits_left = len(found)
        host = (tree.kind == Kind.OPERATOR) | (tree.kind == Kind.RUNTIME)
        host &= (tree.start_us >= self.begin) & (tree.end_us <= self.now)
        self.host_end = float(tree.end_us[host].max(initial=self.begin))

    def follow(self) -> None:
        device = int(self.by_end[-1]) if len(self.rows) else ROOT
        if device != ROOT and self.end[device] < self.host_end:
            device = ROOT
        if device != ROOT:
            self._pass(float(self.end[device]), "host")
        while self.now > self.begin:
            device = self._from_host() if device == ROOT else self._from_device(device)

    def _pass(self, to: float, kind: str, name: int | None = None) -> None:
        """Go back to a moment; the time between is of this kind."""
        to = max(to, self.begin)
        if to < self.now:
            self.kinds[kind] += self.now - to
            if name is not None:
                self.named[name] += self.now - to
            self.now = to

    def _from_device(self, device: int) -> int:
        self._pass(
            float(self.start[device]), _KINDS[Kind(self.kind[device])], int(self.name[device])
        )
        before, called = int(self.before[device]), float(self.called[device])
        if before != ROOT and not self.end[before] <= called:
            self._pass(float(self.end[before]), "kernel_delay")
            return before
        if np.isnan(called):
            self._pass(self.begin, "unknown")
        else:
            self._pass(called, "launch_delay")
        return ROOT

    def _from_host(self) -> int:
        """Go back to the last wait; return the device event that ended it, if one did."""
        left = int(np.searchsorted(self.wait_end[: self.waits_left], self.now, side="right")) - 1
        if left < 0:
            self._pass(self.begin, "host")
            return ROOT
        self.waits_left = left
        start, end = float(self.wait_start[left]), float(self.wait_end[left])
        self._pass(end, "host")
        at = int(np.searchsorted(self.ends, end, side="right")) - 1
        device = int(self.by_end[at]) if at >= 0 else ROOT
        if device != ROOT and self.end[device] > start:
            self._pass(float(self.end[device]), "wait")
            return device
        self._pass(start, "host")
        return ROOT
