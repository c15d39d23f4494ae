"""Plans of a compiled step that no other beats: its components compiled one by one, or all of it as a whole.

One by one each component has a budget of its own and runs are computed again; as a whole there is one budget, but the
compiler fuses across components. Which is better depends on the memory that there is, so one curve has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridlab.planning.record import Figures
from hybridlab.planning.solve import Curve


@dataclass(frozen=True)
class Offer:
    """A plan with what is promised of it: a peak in bytes and a step in milliseconds.

    ``spans`` are computed again and ``shares`` the budgets of components compiled one by one, or with others in
    a row where they are in one of ``stretches``; ``whole`` is the budget
    of the step compiled as a whole, with neither of them.
    """

    peak_bytes: int
    step_ms: float
    spans: tuple[tuple[int, int], ...] = ()
    shares: tuple[float | None, ...] = ()
    whole: float | None = None
    stretches: tuple[tuple[int, int], ...] = ()

    def as_asked(self) -> dict[str, Any]:
        """Return it as plain JSON values, as a ``PlannedPoint`` is read."""
        promised = Figures(peak_bytes=self.peak_bytes, step_ms=self.step_ms)
        return {
            "spans": [list(span) for span in self.spans],
            "shares": list(self.shares),
            "stretches": [list(stretch) for stretch in self.stretches],
            "whole": self.whole,
            "predicted": promised.model_dump(),
        }


def offers(
    curve: Curve, *, scale: float = 1.0, whole: Mapping[float, Figures] | None = None
) -> list[Offer]:
    """Return the plans that no other beats, the smallest peak first.

    Args:
        curve: the plans of the step with its components compiled one by one.
        scale: how much longer the whole step takes than its components alone, as measured of one plan.
        whole: what the step compiled as a whole takes under each of PyTorch's budgets, as measured.
    """
    found = [
        Offer(
            *(point.peak_bytes, scale * point.step_us / 1e3, point.spans, point.shares),
            stretches=point.stretches,
        )
        for point in map(curve.point, range(len(curve)))
    ]
    found += [
        Offer(one.peak_bytes, one.step_ms, whole=share) for share, one in (whole or {}).items()
    ]
    best: list[Offer] = []
    for one in sorted(found, key=lambda each: (each.peak_bytes, each.step_ms)):
        if not best or one.step_ms < best[-1].step_ms:
            best.append(one)
    return best


def telling(some: Sequence[Offer], count: int) -> list[Offer]:
    """Return so many plans that together dominate most, the smallest peak first; both ends are there."""
    peaks = np.array([one.peak_bytes for one in some], dtype=float)
    times = np.array([one.step_ms for one in some])
    chosen = sorted({0, len(some) - 1})[: max(1, count)]
    while len(chosen) < min(count, len(some)):
        best, gain = 0, -1.0
        for one in range(len(some)):
            after = np.searchsorted(chosen, one)
            if one in chosen or after in (0, len(chosen)):
                continue
            left, right = chosen[after - 1], chosen[after]
            more = float((peaks[right] - peaks[one]) * (times[left] - times[one]))
            if more > gain:
                best, gain = one, more
        chosen = sorted([*chosen, best])
    return [some[one] for one in chosen]


def within(some: Sequence[Offer], peak_bytes: int) -> Offer | None:
    """Return the fastest plan whose peak is no larger; None where there is none. ``some`` are those of ``offers``."""
    fitting = [one for one in some if one.peak_bytes <= peak_bytes]
    return fitting[-1] if fitting else None
