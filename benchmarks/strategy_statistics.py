"""What three seeds say: differences by seed with their 95 % interval (Student's t), and lines that are judged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""The 97.5 % point of Student's t, by degrees of freedom."""
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Interval:
    """A mean and half of its 95 % interval, infinite where one seed leaves it open."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.mean + self.half

    def words(self, digits: int = 3, sign: bool = True) -> str:
        """Write the mean and half of the interval."""
        mean = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        return f"{mean} ± {self.half:.{digits}f}" if math.isfinite(self.half) else f"{mean} ± ?"


@dataclass(frozen=True)
class Line:
    """A line that the project has drawn, what was found, and whether it is met."""

    what: str
    found: str
    met: bool


@dataclass
class Told:
    """What a section says: rows of a table, sentences under it, and the lines it is judged by."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of values and half of its 95 % interval (Student's t over the seeds)."""
    if len(values) < 2:
        return Interval(statistics.mean(values), math.inf)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.mean(values), T_975[len(values) - 1] * spread)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean difference of two ways of training by seed: the same first weights, the same batches."""
    return interval([a - b for a, b in zip(ours, theirs, strict=True)])


def verdict(found: Interval, better: str, worse: str, *, higher_is_better: bool = True) -> str:
    """Say what a difference shows; nothing where its interval holds zero."""
    if not math.isfinite(found.half):
        return "one seed says nothing"
    if found.low <= 0 <= found.high:
        return NO_DIFFERENCE
    return better if (found.mean > 0) == higher_is_better else worse
