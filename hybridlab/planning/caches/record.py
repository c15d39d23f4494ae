"""What components keep between two positions: bytes against the number of positions read, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hybridlab.components.growing import PolicyName

Form = Literal["grows", "fills", "constant", "nothing"]
"""How a cache goes on: with every position, until its window is full, not at all, or there is none."""
POSITIONS = (1, 64, 512, 4096)
MOST_POSITIONS = 1 << 17


@dataclass(frozen=True)
class CacheRow:
    """One component in its place; bytes are of all sequences of the batch, one figure for each number of positions."""

    path: str
    use: str
    form: Form
    uses: int
    """How often it runs on one position: more than once inside tied groups, each time with a state of its own."""
    grows_bytes: float
    """Bytes that one more position adds, once a window is full."""
    full_at: int | None
    """Positions after which a cache that fills is full."""
    predicted_bytes: tuple[int, ...]
    measured_bytes: tuple[int | None, ...] = ()
    """None where the measurement did not get so far."""
    no_step: str = ""
    """Why it cannot run one position at a time; empty where it can."""


@dataclass(frozen=True)
class PrefixReport:
    """What a prefix cache has done so far, and holds."""

    requests: int
    hits: int
    """Requests that began from a kept state."""
    positions: int
    """Positions of all requests."""
    saved: int
    """Positions among them that were not read again."""
    kept: int
    """Prefixes whose states are held now."""
    evicted: int
    held_bytes: int
    most_bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of the requests that began from a kept state."""
        return self.hits / self.requests if self.requests else 0.0

    @property
    def saved_share(self) -> float:
        """Share of the positions that were not read again."""
        return self.saved / self.positions if self.positions else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures with their shares as plain JSON values."""
        return {**asdict(self), "hit_rate": self.hit_rate, "saved_share": self.saved_share}


@dataclass(frozen=True)
class PrefixTrial:
    """Requests that begin alike, read with a prefix cache and without."""

    shared: int
    """Positions at the beginning of every request that are those of the others."""
    own: int
    """Positions behind them that are drawn anew."""
    report: PrefixReport
    plain_s: float
    """Seconds of reading them without the cache, measured."""
    cached_s: float
    difference: float
    """Largest difference between the logits of both."""

    def as_dict(self) -> dict[str, Any]:
        """Return the trial as plain JSON values."""
        return {**asdict(self), "report": self.report.as_dict()}


@dataclass(frozen=True)
class CacheReport:
    """Every component's cache after each of ``positions``, for ``batch`` sequences."""

    positions: tuple[int, ...]
    batch: int
    rows: tuple[CacheRow, ...]
    measured_bytes: tuple[int | None, ...] = ()
    """Storages of all states together; memory that two states share counts once."""
    resident_bytes: tuple[int | None, ...] = ()
    """What the process, or the device's allocator, holds more than before the first position: a bound from above."""
    growth: PolicyName = "exact"
    """How caches that grow get their room."""
    copied_bytes: tuple[int, ...] = ()
    """Rows that reading so many positions moves to make room, predicted."""
    measured_copied_bytes: tuple[int | None, ...] = ()
    left_out: str = ""
    """The head that reads whole sequences and was therefore not measured along with the rest."""
    ended: str = ""
    """Why reading ended before the last of the positions; empty where it did not."""
    prefix: PrefixTrial | None = None
    """What a prefix cache saves, where that was tried."""

    @property
    def predicted_bytes(self) -> tuple[int, ...]:
        """Bytes of all caches together."""
        return tuple(
            sum(row.predicted_bytes[place] for row in self.rows)
            for place in range(len(self.positions))
        )

    @property
    def no_step(self) -> tuple[CacheRow, ...]:
        """The components that cannot run one position at a time."""
        return tuple(row for row in self.rows if row.no_step)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, with sums and what follows from them in words."""
        return {
            "positions": list(self.positions),
            "batch": self.batch,
            "predicted_bytes": list(self.predicted_bytes),
            "measured_bytes": list(self.measured_bytes),
            "resident_bytes": list(self.resident_bytes),
            "growth": self.growth,
            "copied_bytes": list(self.copied_bytes),
            "measured_copied_bytes": list(self.measured_copied_bytes),
            "components": [asdict(row) for row in self.rows],
            "no_step": [{"path": row.path, "why": row.no_step} for row in self.no_step],
            "left_out": self.left_out,
            "ended": self.ended,
            "prefix": self.prefix.as_dict() if self.prefix else None,
        }


def form_of(bytes_after: Callable[[int], float]) -> tuple[Form, int | None]:
    """Return how a cache goes on, from its bytes after so many positions, and when one that fills is full."""
    last = MOST_POSITIONS
    if bytes_after(last + 1) > bytes_after(last):
        return "grows", None
    full = bytes_after(last)
    if bytes_after(0) == full:
        return ("constant" if full else "nothing"), None
    low, high = 0, last  # not yet full after ``low``, full after ``high``
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bytes_after(middle) == full else (middle, high)
    return "fills", high
