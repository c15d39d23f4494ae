"""Traces of several processes of one training beside each other: who computes, who communicates, who is waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.errors import Problem, TraceError
from hybridlab.profiling.reading.trace import Trace
from hybridlab.profiling.summary import TraceSummary, summarise

_SKEW_US = 1e6


@dataclass(frozen=True)
class Rank:
    """One process; times in µs, means over its steps.

    Attributes:
        exposed_us: communication during which nothing computed.
        starts_late_us: how long after the earliest process its first step began, by the clocks of the machines.
    """

    rank: int
    step_us: float
    computation_us: float
    communication_us: float
    overlap_us: float
    exposed_us: float
    starts_late_us: float


@dataclass(frozen=True)
class Ranks:
    """Several processes, by rank.

    Attributes:
        slowest: the rank that computes longest: the others wait for it in their collectives.
        missing: ranks of the world whose traces are not among these.
        notes: what was odd, in sentences.
    """

    rows: tuple[Rank, ...]
    world_size: int
    slowest: int
    missing: tuple[int, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the ranks JSON-ready."""
        return asdict(self)


def across_ranks(traces: Sequence[Trace | TraceSummary]) -> Ranks:
    """Put the traces of one training beside each other.

    Raises:
        TraceError: there is no trace, or two are of one rank.
    """
    if not traces:
        raise TraceError(Problem("traces", "there is no trace to look at", expected="one a rank"))
    ranks = [at if trace.rank is None else trace.rank for at, trace in enumerate(traces)]
    twice = [rank for rank, count in Counter(ranks).items() if count > 1]
    if twice:
        paths = [trace.path for trace, rank in zip(traces, ranks, strict=True) if rank == twice[0]]
        raise TraceError(
            Problem(
                "traces",
                f"{' and '.join(paths)} are both of rank {twice[0]}",
                expected="one trace a rank",
                fix="leave one of them out",
            )
        )
    summaries = [each if isinstance(each, TraceSummary) else summarise(each) for each in traces]
    begins = [summary.base_us + summary.steps.span_us[0] for summary in summaries]
    rows = tuple(
        sorted(
            (_rank(*each, min(begins)) for each in zip(ranks, summaries, begins, strict=True)),
            key=lambda row: row.rank,
        )
    )
    world = max(trace.world_size or 0 for trace in traces) or len(traces)
    missing = tuple(sorted(set(range(world)) - set(ranks)))
    slowest = max(rows, key=lambda row: row.computation_us).rank
    return Ranks(rows, world, slowest, missing, tuple(_notes(summaries, rows, missing)))


def _rank(rank: int, summary: TraceSummary, begin_us: float, earliest_us: float) -> Rank:
    found = summary.steps.steps
    count = len(found)
    communication = sum(step.communication_us for step in found) / count
    overlap = sum(step.overlap_us for step in found) / count
    return Rank(
        rank,
        sum(step.duration_us for step in found) / count,
        sum(step.computation_us for step in found) / count,
        communication,
        overlap,
        communication - overlap,
        begin_us - earliest_us,
    )


def _notes(
    summaries: Sequence[TraceSummary],
    rows: tuple[Rank, ...],
    missing: tuple[int, ...],
) -> list[str]:
    notes = []
    if missing:
        shown = ", ".join(str(rank) for rank in missing[:8]) + (" …" if len(missing) > 8 else "")
        notes.append(f"{len(missing)} of the ranks are missing here: {shown}")
    if any(summary.rank is None for summary in summaries):
        notes.append("some traces do not say their rank: those count by their place")
    if max(row.starts_late_us for row in rows) > _SKEW_US:
        notes.append("first steps begin more than a second apart: clocks differ, or steps do")
    if len({len(summary.steps.steps) for summary in summaries}) > 1:
        notes.append("the traces do not hold equally many steps")
    return notes
