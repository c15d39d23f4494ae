"""The dynamic programme against enumeration of every plan, on steps drawn by chance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.errors import SpecError
from hybridlab.planning.choices import Choice, Choices, Unit
from hybridlab.planning.solve import Curve, point_of

Spans = tuple[tuple[int, int], ...]


@st.composite
def steps(draw: st.DrawFn) -> Choices:
    """Draw the choices of a step: chains and forks, storages kept by their maker, one reader, or several."""
    count = draw(st.integers(1, 6))
    small = st.integers(0, 12)
    held = [draw(st.booleans()) and draw(st.booleans()) for _ in range(count)] + [True]
    sizes, kept, read = {}, [set() for _ in range(count + 1)], [set() for _ in range(count + 1)]
    maker = {}
    for place in range(count):
        for storage in (2 * place, 2 * place + 1):
            sizes[storage], maker[storage] = draw(st.integers(1, 9)), place
            if draw(st.booleans()):
                kept[place].add(storage)
        readers = draw(st.sets(st.integers(place + 1, count), min_size=1, max_size=3))
        for reader in readers:
            read[reader].add(2 * place)
            if draw(st.booleans()):
                kept[reader].add(2 * place)
    keepers = {s: {p for p in range(count + 1) if s in kept[p] | read[p]} for s in sizes}
    crossing = tuple(
        frozenset(s for s, who in keepers.items() if len(who) > 1 and min(who) < border <= max(who))
        for border in range(count + 2)
    )
    starting = []
    for first in range(count + 1):
        older = frozenset(s for s in kept[first] if maker[s] < first)
        waiting = frozenset(s for s in read[first] if maker[s] < first)
        mine = [
            Choice(
                *(first, first, False, 0, draw(small), older, frozenset(kept[first])),
                extra_bytes=draw(st.integers(0, 1)),
                ahead_bytes=draw(small),
                ahead_need=waiting,
            )
        ]
        if first < count and draw(st.booleans()):
            mine.append(
                replace(
                    mine[0],
                    time_us=draw(small) + 1,
                    local_bytes=mine[0].local_bytes + sum(sizes[s] for s in older),
                    need=frozenset(),
                    keeps=frozenset(),
                    away=True,
                )
            )
        for last in range(first, count):
            if held[last]:
                break
            reads = frozenset(
                s for p in range(first, last + 1) for s in read[p] if maker[s] < first
            )
            mine.append(Choice(first, last, True, draw(small) + 1, draw(small), reads, reads, 1))
        starting.append(tuple(mine))
    units = tuple(Unit(f"n{p}", 1, 1, 0, 0, 0, "held" if held[p] else "") for p in range(count + 1))
    return Choices(units, tuple(starting), crossing, sizes, draw(small), 100)


def all_plans(step: Choices, place: int = 0) -> Iterator[tuple[Spans, tuple[int, ...]]]:
    """Yield every plan there is: its runs, and what is offloaded."""
    if place == len(step.units):
        yield (), ()
        return
    for choice in step.starting[place]:
        mine = ((choice.first, choice.last),) if choice.again else ()
        gone = (choice.first,) if choice.away else ()
        for rest, others in all_plans(step, choice.last + 1):
            yield mine + rest, gone + others


def peak_and_time(step: Choices, spans: Spans, away: tuple[int, ...]) -> tuple[int, int]:
    """Add up a plan from front to back."""
    found = point_of(step, spans, away)
    return found.peak_bytes, found.step_us


@settings(max_examples=200, deadline=None)
@given(steps())
def test_every_budget_has_the_least_time_of_all_plans(step: Choices) -> None:
    every = [peak_and_time(step, *one) for one in all_plans(step)]
    curve = Curve(step)
    assert min(peak for peak, _ in every) == curve.peak_bytes[0]
    for budget in {peak for peak, _ in every}:
        best = curve.best(budget)
        assert best.step_us == min(time for peak, time in every if peak <= budget)
        assert peak_and_time(step, best.spans, best.away) == (best.peak_bytes, best.step_us)
        assert best.peak_bytes <= budget


@settings(max_examples=50, deadline=None)
@given(steps())
def test_the_curve_falls_and_holds_only_what_no_other_beats(step: Choices) -> None:
    curve = Curve(step)
    points = [curve.point(index) for index in range(len(curve))]
    assert len(points) >= 1
    for one, other in itertools.pairwise(points):
        assert one.peak_bytes < other.peak_bytes and one.step_us > other.step_us
    with pytest.raises(SpecError) as caught:
        curve.best(points[0].peak_bytes - 1)
    (problem,) = caught.value.problems
    assert str(points[0].peak_bytes) in problem.expected and "held by" in problem.fix
