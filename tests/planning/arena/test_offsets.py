"""Placements: nothing overlaps, never below the bound, never worse than greedy, optimal where all can be tried."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset
from hybridlab.planning.arena.lifetimes import Lifetimes, lifetimes
from hybridlab.planning.arena.offsets import (
    ALIGNMENT_BYTES,
    greedy_orders,
    place,
    place_apart,
    place_in_order,
)
from hybridlab.planning.arena.offsets import _Space as Space
from hybridlab.tasks.registry import fit, task
from hybridlab.trace.exact import predict_stream


@st.composite
def pieces(draw: st.DrawFn, most: int = 30) -> Lifetimes:
    rows = []
    for _ in range(draw(st.integers(0, most))):
        first = draw(st.integers(0, 20))
        rows.append((draw(st.integers(0, 5_000)), first, first + draw(st.integers(0, 12))))
    return Lifetimes.of(rows)


def overlaps(found: Lifetimes, offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the pairs that are needed at once and share a byte, found pair by pair."""
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(found)), 2)
        if found.first[i] <= found.last[j]
        and found.first[j] <= found.last[i]
        and offsets[i] < offsets[j] + found.bytes[j]
        and offsets[j] < offsets[i] + found.bytes[i]
    ]


def naive_bound(found: Lifetimes) -> int:
    return max(
        (
            sum(
                int(size)
                for size, first, last in zip(found.bytes, found.first, found.last, strict=True)
                if first <= moment <= last
            )
            for moment in range(40)
        ),
        default=0,
    )


@settings(max_examples=80, deadline=None)
@given(pieces())
def test_pieces_needed_at_once_never_overlap_and_the_best_greedy_is_reached(
    found: Lifetimes,
) -> None:
    placed = place(found, seconds=0.02, rounds=30)
    assert not overlaps(found, placed.offsets)
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in placed.offsets)
    assert placed.bound_bytes == naive_bound(found) <= placed.arena_bytes
    ends = [offset + int(size) for offset, size in zip(placed.offsets, found.bytes, strict=True)]
    assert max(ends, default=0) <= placed.arena_bytes
    for order in greedy_orders(found).values():
        assert placed.arena_bytes <= place_in_order(found, order).arena_bytes


@settings(max_examples=60, deadline=None)
@given(pieces(), st.randoms())
def test_pieces_with_many_neighbours_lie_where_others_would(
    found: Lifetimes, draw: random.Random
) -> None:
    order = list(range(len(found)))
    draw.shuffle(order)
    assert Space(found, many=0).lay(order) == Space(found, many=99).lay(order)


@settings(max_examples=25, deadline=None)
@given(pieces(most=5))
def test_a_tiny_case_reaches_the_least_of_all_orders(found: Lifetimes) -> None:
    orders = itertools.permutations(range(len(found)))
    least = min(place_in_order(found, order).arena_bytes for order in orders)
    assert place(found, seconds=5.0, rounds=400).arena_bytes == least


def test_enumeration_finds_what_no_greedy_order_does() -> None:
    rows = [(192, 0, 2), (192, 1, 4), (128, 2, 6), (256, 4, 8), (128, 3, 3), (192, 6, 9)]
    found = Lifetimes.of(rows)
    orders = itertools.permutations(range(len(found)))
    least = min(place_in_order(found, order).arena_bytes for order in orders)
    assert place(found, seconds=5.0).arena_bytes == least


def test_one_buffer_a_tensor_gives_each_its_own() -> None:
    found = Lifetimes.of([(100, 0, 1), (64, 2, 3), (1, 4, 4)])
    placed = place_apart(found)
    assert placed.offsets == (0, 128, 192)
    assert placed.arena_bytes == 256
    assert placed.separate_bytes == 165


def test_the_search_ends_in_time_and_repeats_itself() -> None:
    draw = np.random.default_rng(0)
    first = draw.integers(0, 200, 300)
    found = Lifetimes(draw.integers(1, 9_999, 300), first, first + draw.integers(0, 30, 300))
    once = place(found, seconds=60.0, rounds=40)
    assert once == place(found, seconds=60.0, rounds=40)
    assert once.arena_bytes <= place(found, seconds=0.0).arena_bytes


@pytest.mark.parametrize(
    "rows", [([1], [0, 1], [1]), ([-1], [0], [0]), ([1], [2], [1])], ids=["length", "size", "order"]
)
def test_columns_that_do_not_belong_together_are_refused(rows: tuple[list[int], ...]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Lifetimes(*(np.array(column) for column in rows))


@pytest.mark.parametrize("name", ["attention_mini", "jamba_mini", "griffin_mini"])
def test_presets_come_within_three_and_a_half_percent_of_the_bound(name: str) -> None:
    chosen = task("python_bytes")
    stream = predict_stream(
        fit(loads(preset(name).text()), chosen),
        chosen.input_type(),
        batch=4,
        length=32,
        training=False,
    )
    found = lifetimes(stream)
    assert found.bound_bytes <= stream.peak_bytes
    placed = place(found)
    assert not overlaps(found, placed.offsets)
    assert placed.over_bound <= 0.035
    assert math.isclose(placed.separate_bytes, sum(found.bytes))


def test_what_autograd_keeps_lasts_to_the_end_of_the_forward() -> None:
    chosen = task("python_bytes")
    fitted = fit(loads(preset("attention_mini").text()), chosen)
    sizes = {"batch": 2, "length": 16}
    inference, training = (
        lifetimes(predict_stream(fitted, chosen.input_type(), training=way, **sizes))
        for way in (False, True)
    )
    assert training.bound_bytes > 1.5 * inference.bound_bytes
    assert (training.last == training.last.max()).sum() > (
        inference.last == inference.last.max()
    ).sum()
