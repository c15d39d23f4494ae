"""Measures steps whose batches are made in several ways, in turns: the profiler's memory events, and the clock."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from hybridlab.planning.measure import measured_peak
from hybridlab.planning.turns import run_ms
from hybridlab.trace.step import TrainingStep

FEWEST_ROUNDS = 3
Ways = Mapping[int, Sequence[TrainingStep]]
"""The steps of each way to make batches, all of one model, by its number of buckets."""


def peaks_of(
    ways: Ways, on_part: Callable[[int, int], object] = lambda done, parts: None
) -> dict[int, tuple[int, ...]]:
    """Return the bytes at the peak of every step of each way; batches of one shape are looked at once."""
    found: dict[tuple[int, ...], int] = {}
    shapes = {_shape(step) for steps in ways.values() for step in steps}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for steps in ways.values():
            for step in steps:
                if _shape(step) not in found:
                    on_part(len(found), len(shapes))
                    found[_shape(step)] = measured_peak(step, follow=False)
    return {way: tuple(found[_shape(step)] for step in steps) for way, steps in ways.items()}


def times_of(
    ways: Ways,
    rounds: int,
    limit_s: float,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> dict[int, list[float]]:
    """Return the milliseconds of a step for each way and round, as the mean over the way's steps.

    In each round every way makes all of its steps, in an order that changes from round to round, so that a machine that
    slows down slows all. No round begins after ``limit_s`` seconds, but for the first few.
    """
    times: dict[int, list[float]] = {way: [] for way in ways}
    order, began = list(ways), time.monotonic()
    for turn in range(rounds):
        if turn >= FEWEST_ROUNDS and time.monotonic() - began > limit_s:
            break
        on_part(turn, rounds)
        for way in order:
            steps = ways[way]
            times[way].append(sum(run_ms(step) for step in steps) / len(steps))
        order = order[1:] + order[:1]
    return times


def _shape(step: TrainingStep) -> tuple[int, ...]:
    """Return the shape of a step's inputs, and how many they are: whether it is told where samples end."""
    inputs = step.inputs[0]
    assert isinstance(inputs, Tensor)
    return len(step.inputs), *inputs.shape
