"""The largest batch or length whose step fits a memory, as it is and with plans, and what going beyond costs.

A few sizes are traced exactly, as near to the limit as this machine may trace (kernels that allocate for themselves run
once in earnest). With one plan the bytes at each moment of a step are a polynomial of the size, of the first degree in
the batch, of the second in the length, so each plan's peak is carried on from the traced sizes; an answer that may be
traced is, and corrected until the trace agrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from hybridlab.errors import Problem, SpecError
from hybridlab.planning.planner import Planner
from hybridlab.planning.solve import point_of
from hybridlab.planning.uniform import Spans

Axis = Literal["batch", "length"]
_DEGREE: Mapping[Axis, int] = {"batch": 1, "length": 2}
_MOST = 1 << 24
_MOST_PLANS = 160
_ROUNDS = 4
_BEYOND = 4
ROOM_BYTES = 1 << 29
"""Steps larger than this are not traced, and none larger than half of the memory that is free."""


@dataclass(frozen=True)
class Sized:
    """A step of one size: the fastest plan that fits, its peak and time, and how many components run again.

    ``sample_ms`` is the time a sample (a position of each, along the length). ``traced`` says whether this very size
    was traced; else it is carried on from smaller ones.
    """

    size: int
    peak_bytes: int
    step_ms: float
    sample_ms: float
    again: int
    traced: bool


@dataclass(frozen=True)
class Fit:
    """What fits ``limit_bytes``: the largest ``plain`` step and the largest ``planned`` one; None: not even one.

    ``beyond`` are sizes between these two with their fastest plans, in rising order. ``least_bytes`` is what the
    smallest size needs with the smallest plan.
    """

    axis: Axis
    limit_bytes: int
    components: int
    plain: Sized | None
    planned: Sized | None
    beyond: tuple[Sized, ...]
    least_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def fitting(
    planner_at: Callable[[int], Planner],
    limit_bytes: int,
    *,
    axis: Axis = "batch",
    start: int = 8,
    room_bytes: int | None = None,
) -> Fit:
    """Find the largest sizes whose step fits.

    Args:
        planner_at: traces and solves a step of one size.
        limit_bytes: the memory that it is to fit.
        axis: what the size is: samples in a batch, or positions in a sample.
        start: the size to begin with.
        room_bytes: the most that a traced step may need; by default what ``ROOM_BYTES`` says.

    Raises:
        SpecError: the limit is not positive, or the architecture has errors.
    """
    if limit_bytes < 1:
        raise SpecError(
            Problem("fit", "is no amount of memory", "1 byte or more", str(limit_bytes))
        )
    if room_bytes is None:
        room_bytes = min(ROOM_BYTES, psutil.virtual_memory().available // 2)
    return _Search(planner_at, limit_bytes, axis, room_bytes).run(start)


class _Search:
    def __init__(
        self, planner_at: Callable[[int], Planner], limit_bytes: int, axis: Axis, room_bytes: int
    ) -> None:
        self.planner_at, self.limit, self.axis, self.room = (
            planner_at,
            limit_bytes,
            axis,
            room_bytes,
        )
        self.traced: dict[int, Planner] = {}
        self.lines: dict[Spans, tuple[_Line, _Line]] = {}
        self.known: dict[tuple[int, Spans], tuple[int, float]] = {}

    def run(self, start: int) -> Fit:
        self._near(start)
        self._carry_on()
        for _ in range(_ROUNDS):
            answers = [self._largest(()), self._largest(None)]
            new = [
                size
                for size in answers
                if size and size not in self.traced and self._plain_bytes(size) <= self.room
            ]
            if not new:
                break
            self._trace(new[0])
            self._carry_on()
        plain, planned = self._largest(()), self._largest(None)
        between: list[int] = []
        if planned > plain:
            first = max(1, plain)
            share = (planned - first) / (_BEYOND + 1)
            between = sorted({first + math.ceil(share * n) for n in range(1, _BEYOND + 1)})
            between = [size for size in between if plain < size < planned]
            for size in (
                between
            ):  # peaks are carried on exactly, but times are not where caches begin to matter
                if self._plain_bytes(size) <= self.room:
                    self._trace(size)
        return Fit(
            self.axis,
            self.limit,
            len(next(iter(self.traced.values())).names),
            self._sized(plain, ()) if plain else None,
            self._sized(planned) if planned else None,
            tuple(self._sized(size) for size in between),
            min(self._of(1, spans)[0] for spans in self.lines),
        )

    def _trace(self, size: int) -> Planner:
        if size not in self.traced:
            self.traced[size] = self.planner_at(size)
        return self.traced[size]

    def _near(self, start: int) -> None:
        """Trace a size near to the limit or to what may be traced, whichever is smaller."""
        target = min(self.limit, self.room)
        size = max(1, start)
        for _ in range(_ROUNDS):
            peak = self._trace(size).plain.peak_bytes
            if 0.6 * target <= peak <= target or (size == 1 and peak > target):
                break
            wanted = max(1, min(_MOST, int(size * 0.9 * target / peak)))
            wanted = min(wanted, 16 * size)
            if wanted == size:
                break
            size = wanted

    def _carry_on(self) -> None:
        """Make the polynomials of every plan's peak and time anew, from the largest traced size and some below it.

        Far below, other moments of the step may be the peak, such as the update, and would bend the curve.
        """
        top = max((n for n, p in self.traced.items() if p.plain.peak_bytes <= self.room), default=1)
        sizes: list[int] = []
        for share in (1.0, 0.5, 0.75)[: _DEGREE[self.axis] + 1]:
            near = [n for n in self.traced if abs(n - share * top) <= 0.1 * top and n not in sizes]
            size = (
                min(near, key=lambda n: abs(n - share * top)) if near else max(1, int(share * top))
            )
            while size in sizes:
                size += 1
            self._trace(size)
            sizes.append(size)
        curve = self.traced[max(sizes)].curve
        step = max(1, len(curve) // _MOST_PLANS)
        plans = {curve.point(index).spans for index in range(0, len(curve), step)} | {()}
        self.lines = {}
        for spans in plans:
            points = [point_of(self.traced[size].choices, spans) for size in sizes]
            self.lines[spans] = (
                _Line(sizes, [point.peak_bytes for point in points]),
                _Line(sizes, [point.step_us / 1e3 for point in points]),
            )

    def _of(self, size: int, spans: Spans) -> tuple[int, float]:
        """Return the bytes and milliseconds of a plan at a size; exact where the size was traced."""
        if size in self.traced:
            known = self.known.get((size, spans))
            if known is None:
                point = point_of(self.traced[size].choices, spans)
                known = self.known[size, spans] = point.peak_bytes, point.step_us / 1e3
            return known
        peak, took = self.lines[spans]
        return math.ceil(peak(size)), took(size)

    def _plain_bytes(self, size: int) -> int:
        return self._of(size, ())[0]

    def _best(self, size: int) -> Spans | None:
        """Return the fastest plan that fits at a size; None where none does."""
        fitting = [
            (took, peak, spans)
            for spans in self.lines
            for peak, took in [self._of(size, spans)]
            if peak <= self.limit
        ]
        return min(fitting)[2] if fitting else None

    def _fits(self, size: int, spans: Spans | None) -> bool:
        if spans is None:
            return any(self._of(size, one)[0] <= self.limit for one in self.lines)
        return self._of(size, spans)[0] <= self.limit

    def _largest(self, spans: Spans | None) -> int:
        """Return the largest size that fits with a plan, with any where it is None; 0 where none does."""
        if not self._fits(1, spans):
            return 0
        low, high = 1, 2
        while high < _MOST and self._fits(high, spans):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(middle, spans) else (low, middle)
        return low

    def _sized(self, size: int, spans: Spans | None = None) -> Sized:
        chosen = self._best(size) if spans is None else spans
        assert chosen is not None
        peak, took = self._of(size, chosen)
        again = sum(last - first + 1 for first, last in chosen)
        return Sized(size, peak, took, took / size, again, size in self.traced)


class _Line:
    """A polynomial through points, of one degree less than there are points (Newton's divided differences)."""

    def __init__(self, at: Sequence[int], values: Sequence[float]) -> None:
        self.at = at
        self.factors = [float(value) for value in values]
        for order in range(1, len(at)):
            for place in range(len(at) - 1, order - 1, -1):
                rise = self.factors[place] - self.factors[place - 1]
                self.factors[place] = rise / (at[place] - at[place - order])

    def __call__(self, size: int) -> float:
        value = self.factors[-1]
        for place in range(len(self.at) - 2, -1, -1):
            value = value * (size - self.at[place]) + self.factors[place]
        return value
