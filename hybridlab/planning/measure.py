"""Measures a step with a plan and without it, in turn, in one process: the profiler's memory events, and the clock."""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, RunError
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Figures, Plan
from hybridlab.profiling.session import device_of, profiled, resident_bytes, timed
from hybridlab.trace.step import TrainingStep

_ROUNDS = 3


def measure_plan(
    step: TrainingStep,
    plan: Plan,
    *,
    steps: int = 10,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> tuple[Figures, Figures]:
    """Return what a step takes with the plan, and what it takes plain; the plan stays with the model.

    Both are timed in turn, a few steps each, so that a machine that slows down slows both; weights change meanwhile as
    in training. ``on_part`` hears before each part how many of how many are done (the last two follow memory, the
    others are timed); what it raises ends the measurement, and the model then runs as it did before.

    Raises:
        RunError: the plan is another architecture's, or the number of steps is out of range.
    """
    if not 1 <= steps <= 10_000:
        raise RunError(Problem("steps", "is out of range", "1 to 10,000", str(steps)))
    model = step.model
    assert isinstance(model, GraphModel)
    before = model.running
    apply(model, plan)
    each = max(1, steps // _ROUNDS)
    times: dict[bool, list[float]] = {True: [], False: []}
    peaks: dict[bool, int] = {}
    rounds = min(steps, _ROUNDS)
    parts = iter(range(2 * rounds + 2))
    with warnings.catch_warnings(), _as_before(model, before):
        warnings.simplefilter("ignore")
        for turn in range(rounds):
            for planned in (True, False) if turn % 2 else (False, True):
                on_part(next(parts), 2 * rounds + 2)
                apply(model, plan if planned else None)
                times[planned] += timed(step, each, device_of(model))
        for planned in (False, True):
            on_part(next(parts), 2 * rounds + 2)
            apply(model, plan if planned else None)
            peaks[planned] = measured_peak(step)
    found = [
        Figures(peak_bytes=peaks[planned], step_ms=statistics.median(times[planned]))
        for planned in (True, False)
    ]
    return found[0], found[1]


@contextlib.contextmanager
def _as_before(model: GraphModel, running: Any) -> Iterator[None]:
    """Let a model run as before where what follows does not come to its end."""
    try:
        yield
    except BaseException:
        model.running = running
        raise


def measured_peak(step: TrainingStep, *, follow: bool = True) -> int:
    """Return the most bytes that are there at once in a step, by the profiler's memory events; see ``profiled``."""
    _, memory, _ = profiled(step, 1, device_of(step.model), None, follow=follow)
    changes = np.array([size for _, size in memory] or [0])
    return resident_bytes(step) + int(np.cumsum(changes).max(initial=0))
