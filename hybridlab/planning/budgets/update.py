"""What a step's update takes: the most that it has in memory, and its time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, record_function

from hybridlab.profiling.session import device_of, kind_of, synchronize
from hybridlab.profiling.sweep import MEMORY_EVENT
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.step import TrainingStep

_MARK = "hybridlab.budgets.phase:"
_TIMED = 5


def measured_update(step: TrainingStep) -> tuple[int, float]:
    """Run a step a few times as it is; return its update's peak beside what is there before the step, and its time.

    The peak is in bytes and counts the gradients; the time is in microseconds.
    """
    device, attribution = device_of(step.model), Attribution({})
    took: list[float] = []

    @contextlib.contextmanager
    def clocked(name: str) -> Iterator[None]:
        synchronize(device)
        began = time.perf_counter()
        yield
        synchronize(device)
        if name == "optimiser":
            took.append(time.perf_counter() - began)

    for _ in range(_TIMED):
        step.run(attribution, clocked)
    activities = [ProfilerActivity.CPU]
    if device.type != "cpu":
        activities.append(getattr(ProfilerActivity, device.type.upper()))
    for _ in range(2):  # the profiler's own first time does not count
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            step.run(attribution, lambda name: record_function(f"{_MARK}{name}"))
    assert profiler.profiler is not None
    began, kind = 0, kind_of(device)
    changes = []
    for event in profiler.profiler.kineto_results.events():
        if event.name() == MEMORY_EVENT and event.device_type() == kind:
            changes.append((event.start_ns(), event.nbytes()))
        elif event.name() == f"{_MARK}optimiser":
            began = event.start_ns()
    level = peak = 0
    for at, size in sorted(changes, key=lambda one: one[0]):
        if began and at >= began:
            peak = max(peak, level, level + size)
        level += size
    return peak, 1e6 * min(took, default=0.0)
