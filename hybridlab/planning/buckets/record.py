"""What sorting batches by length saves: positions computed, bytes of a step, and its time. Free of torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hybridlab.hardware.others import BUSY_CORES
from hybridlab.profiling.medians import Median

LONGEST = 0
"""Stands for no buckets at all: every sample is padded to the longest there is."""
COUNTS = (1, 2, 4, 8)
MOST_COUNTS, MOST_STEPS, MOST_BUCKETS = 8, 512, 256


@dataclass(frozen=True)
class BucketRow:
    """The same samples in batches that are made in one way; bytes and lengths are of steps one after the other."""

    buckets: int
    """Batches that are drawn together and sorted by length; 0: none, all are padded to the longest there is."""
    lengths: tuple[int, ...]
    """Positions of each step's batch."""
    own_positions: int
    """Positions of all samples together, without padding."""
    positions: int
    """Positions that are computed, with padding."""
    predicted_bytes: tuple[int, ...]
    """At the peak of each step."""
    measured_bytes: tuple[int, ...] = ()
    step_ms: Median | None = None
    """A step's time, mean over the steps, median over rounds."""
    ratio: Median | None = None
    """That time over that of batches padded to the longest, round by round."""

    @property
    def padding_share(self) -> float:
        """Share of the computed positions that are padding."""
        return 1 - self.own_positions / self.positions

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values; of bytes the largest step's and the mean over steps."""
        return {
            "buckets": self.buckets,
            "lengths": list(self.lengths),
            "own_positions": self.own_positions,
            "positions": self.positions,
            "padding_share": self.padding_share,
            "peak_bytes": {
                "predicted": max(self.predicted_bytes),
                "measured": max(self.measured_bytes, default=None),
            },
            "mean_bytes": {
                "predicted": round(sum(self.predicted_bytes) / len(self.predicted_bytes)),
                "measured": round(sum(self.measured_bytes) / len(self.measured_bytes))
                if self.measured_bytes
                else None,
            },
            "step_ms": asdict(self.step_ms) if self.step_ms else None,
            "ratio": asdict(self.ratio) if self.ratio else None,
        }


@dataclass(frozen=True)
class BucketReport:
    """Ways to make batches of the same samples, beginning with those padded to the longest.

    ``others_cores`` is how many cores others used meanwhile.
    """

    task: str
    batch: int
    longest: int
    """Positions of the longest sample there is."""
    steps: int
    """Steps whose samples were sorted, in the same epoch of all ways."""
    epoch_steps: float | None
    """Steps until every sample has been seen once; None where samples are made anew."""
    rows: tuple[BucketRow, ...]
    device: str
    threads: int
    others_cores: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether others kept the machine so busy that milliseconds are no timings; ratios still compare."""
        return self.others_cores > BUSY_CORES

    @property
    def fastest(self) -> int | None:
        """The fewest buckets whose time is within the interval of the fastest; None where nothing was timed."""
        timed = [row for row in self.rows if row.ratio is not None]
        if not timed:
            return None
        best = min((row.ratio for row in timed if row.ratio), key=lambda ratio: ratio.value)
        return next(row.buckets for row in timed if row.ratio and row.ratio.value <= best.high)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "task": self.task,
            "batch": self.batch,
            "longest": self.longest,
            "steps": self.steps,
            "epoch_steps": self.epoch_steps,
            "rows": [row.as_dict() for row in self.rows],
            "fastest": self.fastest,
            "device": self.device,
            "threads": self.threads,
            "others_cores": self.others_cores,
            "busy": self.busy,
            "notes": list(self.notes),
        }
