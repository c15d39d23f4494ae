"""When a loss has shot up: its last values stand far above those before, and far by the measure of where it began."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hybridlab.errors import Problem, RunError

NOW, BEFORE = 8, 64
"""Losses whose mean is compared, and losses before them whose median it is compared with."""
TIMES, SHARE_OF_FIRST = 2.0, 0.25
"""It has shot up where it is twice that median, and higher by a quarter of the loss of the first steps."""


class SpikeError(RunError):
    """A loss has shot up; ``good`` is the last step before it did."""

    def __init__(self, spike: Spike) -> None:
        """Say of which step, and by how much."""
        self.step, self.good = spike.step, spike.good
        problem = Problem(
            f"step {spike.step}",
            f"the loss shot up to {spike.now:.4g} from {spike.before:.4g}",
            fix="lower learning_rate, lengthen warmup_steps, lower clip_norm, or allow more rollbacks",
        )
        super().__init__(problem)


@dataclass(frozen=True)
class Spike:
    """A loss that shot up: the mean of the last steps, the median of those before, the last step that was good."""

    step: int
    good: int
    now: float
    before: float


class SpikeWatch:
    """Looks at every loss; ``state`` is what it needs to go on, as plain JSON."""

    def __init__(self, state: Sequence[float] = ()) -> None:
        """Go on from a state, or begin."""
        self._first: float | None = state[0] if state else None
        self._losses = list(state[1:])

    def state(self) -> list[float]:
        """Return the loss of the first steps and the losses looked at; nothing before there are enough."""
        return (
            [] if self._first is None and not self._losses else [self._first or 0.0, *self._losses]
        )

    def note(self, step: int, loss: float) -> Spike | None:
        """Note the loss of a step; return the spike that shows with it, and begin anew after one."""
        self._losses.append(loss)
        if not self._first and len(self._losses) >= NOW:
            self._first = statistics.fmean(self._losses[:NOW])
        if len(self._losses) < NOW + BEFORE:
            return None
        del self._losses[: -(NOW + BEFORE)]
        before = statistics.median(self._losses[:BEFORE])
        now = statistics.fmean(self._losses[BEFORE:])
        if now < TIMES * before or now < before + SHARE_OF_FIRST * (self._first or 0.0):
            return None
        self._losses.clear()
        return Spike(step, step - NOW, now, before)
