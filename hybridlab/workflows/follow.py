"""Waiting for a run with its progress in words, for terminals and notebooks alike; an interrupt asks it to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hybridlab.errors import Problem, RunError
from hybridlab.runs.launcher import cancel, ensure_supervisor, wait
from hybridlab.runs.metrics import Columns
from hybridlab.runs.profile_request import ProfileRequest, look
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.units import format_seconds

_SHOWN = ("loss", "samples_per_s")
_POLL_SECONDS = 0.15


@dataclass(frozen=True)
class Progress:
    """How a run stands: its record, the last value of every metric, and the seconds its remaining steps will take."""

    run: Run
    values: Mapping[str, float]
    seconds_left: float | None

    @property
    def text(self) -> str:
        """Return the progress in one line."""
        run = self.run
        if run.state is RunState.QUEUED:
            return "waiting for free cores"
        if not self.values:
            return "starting"
        parts = [f"step {run.step}/{run.steps}" if run.steps else f"step {run.step}"]
        names = [*_SHOWN, *sorted(name for name in self.values if name.startswith("val_"))]
        parts += [f"{name} {self.values[name]:.4g}" for name in names if name in self.values]
        if run.state.active and self.seconds_left:
            parts.append(f"at most {format_seconds(self.seconds_left)} left")
        return ", ".join(parts)


def follow(
    run: Run,
    on_progress: Callable[[Progress], None],
    on_stopping: Callable[[], None] = lambda: None,
) -> Run:
    """Wait until a run has ended, and return it.

    The first interrupt (Ctrl-C, or a notebook's stop button) asks the run to stop, which writes a checkpoint; a second
    one leaves the run to itself.

    Raises:
        RunError: the run is gone.
        StoreError: the store cannot be read.
    """
    estimate = _Estimate(on_progress)
    try:
        return wait(run.id, estimate.update)
    except KeyboardInterrupt:
        on_stopping()
        cancel(run.id)
        return wait(run.id, estimate.update)


def wait_for_profile(run_id: str) -> ProfileRequest:
    """Wait until a profile that was asked for is written, or it is sure that it will not be, and return it.

    Raises:
        RunError: there is no such run, or nobody asked it for a profile.
        StoreError: the store cannot be read.
    """
    while True:
        ensure_supervisor()
        found = look(open_store().get(run_id))
        if found is None:
            raise RunError(Problem(f"run {run_id}", "nobody asked for a profile of it"))
        if not found.state.open:
            return found
        time.sleep(_POLL_SECONDS)


class _Estimate:
    """Turns new metrics into progress."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.on_progress = on_progress
        self.values: dict[str, float] = {}
        self.first: tuple[float, int] | None = None
        self.left: float | None = None

    def update(self, run: Run, columns: Columns) -> None:
        self.values |= dict(zip(columns.name, columns.value, strict=True))
        if columns.step:
            seconds, step = columns.seconds[-1], columns.step[-1]
            if self.first is None:
                self.first = columns.seconds[0], columns.step[0]
            elif run.steps and step > self.first[1]:
                rate = (seconds - self.first[0]) / (step - self.first[1])
                self.left = rate * max(0, run.steps - step)
        self.on_progress(Progress(run, dict(self.values), self.left))
