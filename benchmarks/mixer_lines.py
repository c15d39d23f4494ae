"""The lines that the mixers' benchmark draws, judged from its rows alone; nothing here runs or measures.

A ratio of forms is the median of the ratios of their rounds, so a drift of the machine's clock hits both alike.
A step of a state that does not grow must take the same time at every position, once the state has its full size: the
cache of a window fills until the window is full, and the positions before are not compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

OURS, PLAIN, NAIVE, SDPA = "ours", "ours, plain", "naive", "sdpa"
PEERS = ("mambapy", "fla", "transformers")

JUDGED_AT, GROWN_TO = 1024, 4096
NOISE = 1.05
"""What two runs of the same thing differ by on a quiet machine; where nothing is asked but not to be slower."""
AT_MOST = {
    # (subject, our form, peer): its share of the peer's time
    ("gated linear attention", OURS, "naive_chunk_simple_gla"): 0.75,
    ("gated delta rule", OURS, "naive_chunk_gated_delta_rule"): 0.45,
    ("selective scan", PLAIN, "MambaBlock.selective_scan"): 0.25,
    ("selective scan", OURS, "MambaBlock.selective_scan"): 0.08,
}
TIMES_FASTER_THAN_LOOPS = 10.0
GROWTH = 1.15
NAIVE_FROM = 256
STEP_RATIO = 1.3


@dataclass
class Row:
    """One form of a subject at one length: its times, or why there are none."""

    subject: str
    part: str
    """``layer`` with its maps in and out, or ``recurrence`` alone."""
    form: str
    source: str
    length: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    kept_only: bool = False
    """Whether the bytes are those that forward keeps alone, less than the peak."""
    parameters: int = 0
    loops: bool = False
    same: bool = True
    linear: bool = False
    skipped: str = ""

    @property
    def ms(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.seconds) * 1e3


@dataclass
class StepRow:
    """Milliseconds of one more token, by how many came before it."""

    mixer: str
    ms: dict[int, float]
    grows: bool
    """Whether the state grows with each token, as a cache does."""
    full_from: int = 0
    """The first position whose state is as large as at the last: where the cache of a window is full."""

    @property
    def full(self) -> list[float]:
        """Milliseconds at the positions that can be compared: all, or those where the state has its full size."""
        return [ms for at, ms in self.ms.items() if self.grows or at >= self.full_from]

    @property
    def ratio(self) -> float:
        """Slowest of these positions over the fastest."""
        return max(self.full) / min(self.full)


@dataclass
class Line:
    """A line, what was found, and whether it is met; a figure of None was not measured."""

    what: str
    limit: float
    figure: float | None
    met: bool


def over(one: Row, other: Row) -> float:
    """Return how many times as long ``one`` takes as ``other``; by rounds where both have them."""
    if len(one.seconds) != len(other.seconds):
        return one.ms / other.ms
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def judged(rows: Sequence[Row], steps: Sequence[StepRow]) -> Iterator[Line]:
    """Yield every line that the rows can speak of."""
    at = {
        (row.subject, row.part, row.form, row.length): row
        for row in rows
        if row.seconds and row.source in (OURS, PLAIN)
    }
    for row in rows:
        if not row.seconds:
            continue
        ours = at.get((row.subject, row.part, OURS, row.length))
        if row.source == NAIVE and ours and row.length >= NAIVE_FROM:
            yield _at_most(
                f"{row.subject} at {row.length}: over its naive form", over(ours, row), 1
            )
        if row.source in PEERS and row.length == JUDGED_AT:
            for form, limit in _limits(row):
                mine = at.get((row.subject, row.part, form, row.length))
                if mine:
                    what = f"{row.subject} ({row.part}), {form}: over {row.form} of {row.source}"
                    yield _at_most(what, over(mine, row), limit)
        if row.source == OURS and row.linear and row.length == GROWN_TO and row.part == "layer":
            before = at.get((row.subject, row.part, OURS, JUDGED_AT))
            if before:
                power = math.log(row.ms / before.ms) / math.log(GROWN_TO / JUDGED_AT)
                what = f"{row.subject}: power of the length from {JUDGED_AT} to {GROWN_TO}"
                yield _at_most(what, power, GROWTH)
    for step in steps:
        if not step.grows and len(step.full) > 1:
            since = f", from {step.full_from:,} on" if step.full_from > min(step.ms) else ""
            what = f"{step.mixer}: slowest over fastest step{since}"
            yield _at_most(what, step.ratio, STEP_RATIO)


def _limits(peer: Row) -> Iterator[tuple[str, float]]:
    """Yield our forms that a peer is compared with, and the share of its time that they may take."""
    named = [
        (form, limit)
        for (subject, form, name), limit in AT_MOST.items()
        if (subject, name) == (peer.subject, peer.form)
    ]
    yield from named
    if peer.same and not named:
        yield OURS, 1 / TIMES_FASTER_THAN_LOOPS if peer.loops else NOISE


def _at_most(what: str, figure: float, limit: float) -> Line:
    return Line(what, limit, figure, figure <= limit)
