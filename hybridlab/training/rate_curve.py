"""What a learning-rate range test says: losses over rates, where they fall, and a rate to take. Free of torch.

The test is Smith's (https://arxiv.org/abs/1506.01186) as fastai made it known, with one thing added: the same batches
are also seen by weights that do not learn, and what counts is how far the loss falls below theirs. That takes out how
hard a batch happens to be, and what other groups learn meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEAST_FALL = 0.01
"""A fall by a smaller share of the loss is no fall: chance makes as much."""
_EDGE = 0.1
"""Share of the whole fall at which it is said to begin."""
_HALF_WIDTH = 5


@dataclass(frozen=True)
class RateCurve:
    """One range test: rates from low to high, a loss for each, and what the loss is without learning.

    ``group`` is empty for the learning rate of all. ``suggestion`` is None where the loss never fell.
    """

    group: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    control: tuple[float, ...]
    """Losses of the same batches where the rate is 0."""
    smoothed: tuple[float, ...]
    smoothed_control: tuple[float, ...]
    diverged: bool
    suggestion: float | None
    steepest: float | None
    """Where the loss falls fastest for a step of the rate."""
    lowest: float | None
    """Where the smoothed loss is lowest."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return the test as plain JSON values."""
        return asdict(self)


def rate_curve(
    group: str,
    rates: Sequence[float],
    losses: Sequence[float],
    control: Sequence[float],
    *,
    diverged: bool,
) -> RateCurve:
    """Return what a test says; all three sequences are equally long, and losses are finite.

    The suggestion is the middle, on a logarithmic scale, between where the fall begins and where the loss is lowest.
    """
    mine, without = smoothed(losses), smoothed(control)
    below = [a - b for a, b in zip(mine, without, strict=True)]
    end = min(range(len(below)), key=below.__getitem__)
    share = -below[end] / max(abs(without[end]), 1e-12)
    if share < LEAST_FALL:
        reason = (
            f"The loss never fell by more than {100 * LEAST_FALL:g} % below that of weights that do not learn, so no "
            "rate is suggested: take more steps, a larger batch, or look whether this group learns at all."
        )
        found: tuple[float | None, float | None, float | None] = (None, None, None)
    else:
        begun = max((i for i in range(end) if below[i] > _EDGE * below[end]), default=0)
        middle = rounded(math.sqrt(rates[begun] * rates[end]))
        steepest = min(range(begun, end), key=lambda i: below[i + 1] - below[i], default=end)
        found = (middle, rates[steepest], rates[end])
        reason = (
            f"The loss begins to fall at {rates[begun]:.2g} and is lowest at {rates[end]:.2g}, {100 * share:.0f} % "
            f"below that of weights that do not learn; {middle:.2g} lies in the middle, "
            f"{rates[end] / middle:.2g} times below where it rises again."
        )
        if end == len(rates) - 1 and not diverged:
            reason = (
                f"The loss begins to fall at {rates[begun]:.2g} and still falls at {rates[end]:.2g}, the highest rate "
                f"tried; {middle:.2g} lies in the middle and is safe, a higher one may be better."
            )
    return RateCurve(
        group,
        tuple(rates),
        tuple(losses),
        tuple(control),
        tuple(mine),
        tuple(without),
        diverged,
        *found,
        reason,
    )


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean around each value, nearer ones weighing more; it does not lag behind as a running mean does."""
    found = []
    for place in range(len(values)):
        reach = min(_HALF_WIDTH, place, len(values) - 1 - place)
        weights = {i: reach + 1 - abs(i - place) for i in range(place - reach, place + reach + 1)}
        total = math.fsum(weight * values[i] for i, weight in weights.items())
        found.append(total / sum(weights.values()))
    return found


def rounded(rate: float) -> float:
    """Return a rate with two digits, as people write it."""
    return float(f"{rate:.1e}")
