"""The best plans of a step, exactly: for each peak the least time, by a dynamic programme from the loss to the input.

Seen from behind, a peak is counted beside what stands from before. A choice in front of a rest whose peak is ``p``
makes it max(its own, what it keeps + p): both this and the time never fall when the rest's do, so at each border only
the rests matter that no other beats in both. Which storages are already kept in front of a border is part of the state,
where somebody on both sides may keep them; else such a storage would count twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridlab.errors import SpecError
from hybridlab.planning.choices import Choice, Choices
from hybridlab.planning.trade_off import too_small

Ints = np.ndarray[Any, Any]
State = tuple[int, frozenset[int]]
"""A border (the place behind it), and the storages that are kept in front of it and may be kept again behind it."""
_NOTHING = -(1 << 60)
"""The peak of a rest in which nothing runs: nobody is there to see what the last choice leaves standing."""
_MOST_SHARED = 6
"""Storages of a border that are followed, the largest; others count each time, so that a peak is rather too high."""

_MOST_OF_EACH = 400
"""Plans of each part of a batch that are looked at in both, where the parts are not alike."""


@dataclass(frozen=True)
class Point:
    """One plan that no other beats: its peak, its time, the runs that are computed again, and what is offloaded.

    ``shares`` are PyTorch's memory budgets of compiled instructions, one each; empty where nothing is compiled.
    Those of ``stretches`` are compiled together, in a row.
    """

    peak_bytes: int
    step_us: int
    spans: tuple[tuple[int, int], ...]
    away: tuple[int, ...] = ()
    shares: tuple[float | None, ...] = ()
    stretches: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Front:
    """Rests that no other beats, the smallest peak first: peaks, times, the choice before each, and its rest."""

    peaks: Ints
    times: Ints
    choice: Ints
    rest: Ints


class Curve:
    """All plans of a step that no other beats in peak and time."""

    def __init__(self, given: Choices) -> None:
        """Solve a step."""
        self.given = given
        self._followed = tuple(
            frozenset(sorted(border, key=lambda one: (-given.sizes[one], one))[:_MOST_SHARED])
            for border in given.crossing
        )
        self._fronts: dict[State, _Front] = {}
        self._next: dict[State, list[tuple[Choice, State]]] = {}
        start: State = (0, frozenset())
        for state in reversed(self._reachable(start)):
            self._fronts[state] = self._front(state)
        front = self._fronts[start]
        peaks = np.maximum(front.peaks, given.floor_bytes)
        worth = np.append(np.diff(peaks) > 0, True)  # below the floor only the fastest counts
        self._start, self._worth = start, np.flatnonzero(worth)
        self.peak_bytes: Ints = peaks[self._worth]
        self.step_us: Ints = front.times[self._worth] + given.plain_us
        self._points: list[Point] | None = None
        if given.later is not None:
            self._points = _of_both(given, given.later)
            self.peak_bytes = np.array([point.peak_bytes for point in self._points])
            self.step_us = np.array([point.step_us for point in self._points])

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.peak_bytes)

    def point(self, index: int) -> Point:
        """Return a point with its runs; the one with the smallest peak is the first."""
        if self._points is not None:
            return self._points[index]
        spans, away, state, at = [], [], self._start, int(self._worth[index])
        stretches: list[tuple[int, int]] = []
        shares: list[float | None] = []
        while state[0] < len(self.given.units):
            front = self._fronts[state]
            choice, after = self._next[state][front.choice[at]]
            if choice.again:
                spans.append((choice.first, choice.last))
            elif choice.last > choice.first:
                stretches.append((choice.first, choice.last))
            if choice.away:
                away.append(choice.first)
            shares += choice.shares
            state, at = after, int(front.rest[at])
        numbers = int(self.peak_bytes[index]), int(self.step_us[index])
        return Point(*numbers, tuple(spans), tuple(away), tuple(shares), tuple(stretches))

    def best(self, budget_bytes: int) -> Point:
        """Return the fastest plan whose peak is within a budget.

        Raises:
            SpecError: there is none; it says the smallest peak and what holds it.
        """
        fitting = np.flatnonzero(self.peak_bytes <= budget_bytes)
        if not len(fitting):
            least = self.point(0)
            holder = holds(self.given, least.spans, least.away)
            raise SpecError(too_small(budget_bytes, least.peak_bytes, holder))
        return self.point(int(fitting[-1]))

    def _reachable(self, start: State) -> list[State]:
        """Return every state that choices lead to, each behind those that lead to it."""
        at_border: dict[int, set[State]] = {0: {start}}
        found: list[State] = []
        for border in range(len(self.given.units)):
            for state in sorted(at_border.pop(border, ()), key=lambda one: sorted(one[1])):
                found.append(state)
                steps = []
                for choice in self.given.starting[border]:
                    after = choice.last + 1
                    known = (state[1] | choice.keeps) & self._followed[after]
                    steps.append((choice, (after, known)))
                    at_border.setdefault(after, set()).add((after, known))
                self._next[state] = steps
        for state in at_border.get(len(self.given.units), ()):
            zero = np.zeros(1, dtype=np.int64)
            self._fronts[state] = _Front(zero + _NOTHING, zero, zero - 1, zero)
        return found

    def _front(self, state: State) -> _Front:
        parts: list[tuple[Ints, Ints, int]] = []
        for index, (choice, after) in enumerate(self._next[state]):
            rest = self._fronts[after]
            own, kept = cost(self.given, choice, state[1])
            parts.append((np.maximum(rest.peaks + kept, own), rest.times + choice.time_us, index))
        peaks = np.concatenate([part[0] for part in parts])
        times = np.concatenate([part[1] for part in parts])
        which = np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
        rests = np.concatenate([np.arange(len(part[0])) for part in parts])
        order = np.lexsort((times, peaks))
        least = np.minimum.accumulate(times[order])
        beats = np.append(True, times[order][1:] < least[:-1])
        chosen = order[beats]
        return _Front(peaks[chosen], times[chosen], which[chosen], rests[chosen])


def _of_both(given: Choices, later: Choices) -> list[Point]:
    """Return the best of the plans that are best in either part of a batch, with what they take in both together."""
    found: dict[tuple[tuple[tuple[int, int], ...], tuple[int, ...]], Point] = {}
    for one in (replace(given, later=None), later):
        curve = Curve(one)
        count = len(curve)
        for index in np.unique(np.linspace(0, count - 1, min(count, _MOST_OF_EACH)).round()):
            point = curve.point(int(index))
            found[point.spans, point.away] = point_of(given, point.spans, point.away)
    best: list[Point] = []
    for point in sorted(found.values(), key=lambda one: (one.peak_bytes, one.step_us)):
        if not best or point.step_us < best[-1].step_us:
            best.append(point)
    return best


def cost(given: Choices, choice: Choice, known: frozenset[int]) -> tuple[int, int]:
    """Return a choice's own peak and what it leaves standing, beside storages that are ``known`` to be kept before."""
    own = choice.local_bytes + given.bytes_of(choice.need - known)
    if choice.ahead_bytes:
        own = max(own, choice.ahead_bytes + given.bytes_of(choice.ahead_need - known))
    return own, given.bytes_of(choice.keeps - known) + choice.extra_bytes


def peaks_of(
    given: Choices, spans: tuple[tuple[int, int], ...], away: Collection[int] = ()
) -> list[tuple[int, Choice]]:
    """Return the peak of each choice of one plan, in order, counted forward with every storage that is kept so far."""
    runs = dict(spans)
    found, known, standing, place = [], frozenset[int](), 0, 0
    while place < len(given.units):
        again, last = place in runs, runs.get(place, place)
        wanted = again, last, place in away
        choice = next(c for c in given.starting[place] if (c.again, c.last, c.away) == wanted)
        own, kept = cost(given, choice, known)
        found.append((standing + own, choice))
        known, standing, place = known | choice.keeps, standing + kept, last + 1
    return found


def point_of(
    given: Choices, spans: tuple[tuple[int, int], ...], away: tuple[int, ...] = ()
) -> Point:
    """Return what any plan takes by the same account as the curve, one made by hand for example."""
    found = peaks_of(given, spans, away)
    peak = max(given.floor_bytes, *(peak for peak, _ in found))
    if given.later is not None:
        peak = max(peak, point_of(given.later, spans, away).peak_bytes)
    return Point(peak, given.plain_us + sum(choice.time_us for _, choice in found), spans, away)


def holds(given: Choices, spans: tuple[tuple[int, int], ...], away: Collection[int] = ()) -> str:
    """Say in words what stands at the peak of a plan."""
    peak, choice = max(peaks_of(given, spans, away), key=lambda one: one[0])
    if given.later is not None and point_of(given.later, spans, tuple(away)).peak_bytes > peak:
        return holds(given.later, spans, away)
    if given.floor_bytes >= peak:
        return "weights, gradients and the optimiser while it updates"
    names = [given.units[choice.first].name, given.units[choice.last].name]
    who = names[0] if choice.first == choice.last else f"{names[0]} to {names[1]}"
    why = given.units[choice.first].held
    return f"{who} at work" + (f", which is kept because {why}" if why and not choice.again else "")
