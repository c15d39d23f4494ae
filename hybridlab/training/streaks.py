"""For how long something holds: the measurements in a row up to the last one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST_SAMPLES = 3
"""What does not hold at three measurements in a row, up to the last one, is noise or is over."""


@dataclass(frozen=True)
class Streak:
    """The last measurements in a row at which something holds, and the middle one of its values."""

    first: int
    last: int
    samples: int
    value: float

    def words(self) -> str:
        """Say for how long."""
        steps = self.last - self.first
        return f"for {steps:,} steps" if self.first > 1 else f"in all {self.last:,} steps"

    def evidence(self) -> dict[str, int]:
        """Return from when to when, and how often it was measured."""
        return {"from_step": self.first, "to_step": self.last, "samples": self.samples}


def streak_of(values: Mapping[int, float], holds: Callable[[float], bool]) -> Streak | None:
    """Return the measurements up to the last one at which something holds; None where they are too few."""
    steps = sorted(values)
    begin = len(steps)
    while begin and holds(values[steps[begin - 1]]):
        begin -= 1
    held = steps[begin:]
    if len(held) < LEAST_SAMPLES:
        return None
    return Streak(held[0], held[-1], len(held), statistics.median(values[s] for s in held))
