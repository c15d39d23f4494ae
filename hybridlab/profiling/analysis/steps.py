"""The steps of a trace, and what kind of work their time went into.

The rules are torch-tb-profiler's (https://github.com/pytorch/kineto/tree/main/tb_plugin/docs): where several kinds run
at once the time goes to the first of kernel, memcpy, memset, communication, runtime, data loader, operator; a step ends
with the last thing on a device that it started. Each step counts once, though a trace of today shows it on the host
and again on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.communication import collective_kernels, roles
from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.analysis.ranges import intersection, shares
from hybridlab.profiling.reading.trace import Kind, Trace

CATEGORIES = (
    "kernel",
    "memcpy",
    "memset",
    "communication",
    "runtime",
    "data_loader",
    "operator",
    "other",
)
_FEWER = 0.8


@dataclass(frozen=True)
class Step:
    """One step; times in µs, ``start_us`` since ``Trace.base_us``.

    Attributes:
        by_category: µs of each of ``CATEGORIES``; they add up to ``duration_us``.
        computation_us: time in which kernels computed (operators, where there is no device).
        communication_us: time of communication.
        overlap_us: time in which both ran.
    """

    name: str
    start_us: float
    duration_us: float
    by_category: dict[str, float]
    computation_us: float
    communication_us: float
    overlap_us: float


@dataclass(frozen=True)
class Steps:
    """The steps of a trace.

    Attributes:
        recorded: whether the trace marks steps; if not, the whole trace is one.
        dropped: names of steps at the end whose kernels the profiler did not catch in full.
    """

    steps: tuple[Step, ...]
    recorded: bool
    dropped: tuple[str, ...]

    @property
    def span_us(self) -> tuple[float, float]:
        """Start of the first and end of the last step, in µs."""
        last = self.steps[-1]
        return self.steps[0].start_us, last.start_us + last.duration_us

    def mean(self) -> dict[str, float]:
        """Return the mean µs a step by category."""
        return {
            name: sum(step.by_category[name] for step in self.steps) / len(self.steps)
            for name in CATEGORIES
        }


def steps(tree: HostTree, launched: Launches) -> Steps:
    """Find the steps and split their time."""
    trace = tree.trace
    names, spans = _host_spans(trace)
    recorded = bool(names)
    if not recorded:
        names, spans = ["0"], [_whole(trace)]
    kept, spans = _with_device(tree, launched, spans)
    dropped = tuple(names[kept:])
    names, spans = names[:kept], spans[:kept]
    role = roles(trace, collective_kernels(tree, launched))
    split = shares([role[name] for name in CATEGORIES[:-1]], spans)
    computing = role["kernel"] if len(role["kernel"]) else role["operator"]
    both = intersection(computing, role["communication"])
    found = []
    for name, (start, end), row in zip(names, spans, split, strict=True):
        found.append(
            Step(
                name,
                start,
                end - start,
                dict(zip(CATEGORIES, (float(x) for x in row), strict=True)),
                computing.within(start, end),
                role["communication"].within(start, end),
                both.within(start, end),
            )
        )
    return Steps(tuple(found), recorded, dropped)


def _host_spans(trace: Trace) -> tuple[list[str], list[tuple[float, float]]]:
    events = trace.events
    host = np.isin(events.kind, (Kind.OPERATOR, Kind.ANNOTATION))
    rows = np.flatnonzero(host & trace.named(naming.is_step))
    rows = rows[np.argsort(events.start_us[rows], kind="stable")]
    names = [trace.names[events.name[row]].removeprefix(naming.STEP) for row in rows]
    return names, [(float(events.start_us[r]), float(events.end_us[r])) for r in rows]


def _whole(trace: Trace) -> tuple[float, float]:
    events = trace.events
    for kinds in ((Kind.OPERATOR,), tuple(set(Kind) - {Kind.SPAN})):
        rows = events.of(*kinds)
        if len(rows):
            return float(events.start_us[rows].min()), float(events.end_us[rows].max())
    return float(events.start_us.min()), float(events.end_us.max())


def _with_device(
    tree: HostTree, launched: Launches, spans: list[tuple[float, float]]
) -> tuple[int, list[tuple[float, float]]]:
    """Let each step last until the work it started on a device is done; return how many to keep."""
    events = tree.trace.events
    known = launched.call != ROOT
    rows, calls = launched.rows[known], launched.call[known]
    begins, ends = tree.start_us[calls], tree.end_us[calls]
    found: list[tuple[float, float] | None] = []
    counts: list[int] = []
    matched = np.zeros(len(rows), dtype=np.bool_)
    for start, end in spans:
        inside = (begins >= start) & (ends <= end)
        matched |= inside
        mine = rows[inside]
        counts.append(len(mine))
        found.append(
            (float(events.start_us[mine].min()), float(events.end_us[mine].max()))
            if len(mine)
            else None
        )
    if not matched.any():
        return len(spans), spans
    before = spans[0][0]
    if found[0] is not None:
        others = np.setdiff1d(launched.rows, rows[matched])
        done = events.end_us[others]
        done = done[done < found[0][0]]
        before = max(before, float(done.max(initial=before)))
    longer = []
    for (start, end), device in zip(spans, found, strict=True):
        start = max(before, start)
        end = max(end, start) if device is None else max(end, device[1], start)
        longer.append((start, end))
        before = end
    return _complete(counts), longer


def _complete(counts: list[int]) -> int:
    """Return how many steps to keep: the last one may miss kernels that the profiler did not wait for."""
    last = max(at for at, count in enumerate(counts) if count)
    if len(counts) == 1 or last == 0 or counts[last - 1] * _FEWER <= counts[last]:
        return last + 1
    return last
