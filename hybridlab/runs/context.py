"""What a workflow sees of its run: a folder, metrics, progress, and the wish that it stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from hybridlab.errors import StoreError
from hybridlab.runs.leases import Lease, LeaseLostError
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import Run
from hybridlab.runs.samples import Sampler
from hybridlab.runs.store import Store

FLUSH_SECONDS = 0.2
BEAT_SECONDS = 1.0
EXIT_LEASE_LOST = 75

StopReason = Literal["cancel", "interrupt"]


class Stopped(Exception):  # noqa: N818  (it is no error: the workflow did what it was asked)
    """A workflow stopped because it was asked to; it left behind what it needs to go on."""

    def __init__(self, reason: StopReason) -> None:
        """Say who asked: ``cancel`` (a user) or ``interrupt`` (the system)."""
        super().__init__(reason)
        self.reason = reason


def _leave() -> None:
    os._exit(EXIT_LEASE_LOST)


class RunContext:
    """A workflow's side of its run; safe to use from several threads.

    A thread of its own writes what was logged every 200 ms, so that readers see it within 250 ms; it raises the
    heartbeat and samples memory and processor once a second, unless the workflow has meters of its own. When the run
    was taken away, the process ends there and then: another worker may already be writing the same folder.
    """

    def __init__(
        self, store: Store, run: Run, folder: Path, *, on_lost: Callable[[], None] = _leave
    ) -> None:
        """Serve a run this process has the lease of."""
        self.run = run
        self.folder = folder
        self._store = store
        self._lease = Lease(run.id, run.lease)
        self._on_lost = on_lost
        self._buffer: list[Point] = []
        self._step, self._steps = run.step, run.steps
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._cancel = run.cancel_requested
        self._interrupt = False
        self._base_seconds = store.running_seconds(run.id)
        self._began = time.monotonic()
        self._sampler: Sampler | None = Sampler()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._pulse, name="run-pulse", daemon=True)

    @property
    def resumed(self) -> bool:
        """Say whether the run was begun before, so that there may be something to go on from."""
        return self.run.attempt > 1

    @property
    def step(self) -> int:
        """Return the last step that was reported."""
        return self._step

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Note metrics of a step; cheap, they are written a moment later."""
        seconds = self._seconds()
        points = [Point(step, name, float(value), seconds) for name, value in values.items()]
        with self._guard:
            self._buffer += points

    def bring_own_meters(self) -> None:
        """Leave memory and processor to the workflow's own meters, which ``log_samples`` hands on."""
        self._sampler = None

    def log_samples(self, values: Mapping[str, float]) -> None:
        """Note readings of meters at the step that the run has come to."""
        self.log_metrics(self._step, values)

    def progress(self, step: int, steps: int) -> None:
        """Note that so many steps of so many are done."""
        with self._guard:
            self._step, self._steps = step, steps

    def stop_requested(self) -> StopReason | None:
        """Return why the workflow should stop at its next step, or None to go on."""
        if self._cancel:
            return "cancel"
        return "interrupt" if self._interrupt else None

    def interrupt(self) -> None:
        """Ask the workflow to stop at its next step; called by the signal handler."""
        self._interrupt = True

    def truncate_metrics(self, after_step: int) -> None:
        """Take back all metrics after a step, because the run goes on from there."""
        with self._writing:
            with self._guard:
                self._buffer.clear()
                self._step = after_step
            try:
                self._base_seconds = self._store.leases.truncate_metrics(self._lease, after_step)
            except LeaseLostError:
                self._on_lost()
                raise
            self._began = time.monotonic()

    def flush(self) -> bool:
        """Write what was logged now; say whether it was, else it is tried again a moment later.

        Called before a checkpoint is published, it keeps the curve of a run whole: the run goes on from that
        checkpoint, so points of earlier steps would never come again.
        """
        try:
            self._write(beat=False)
        except StoreError:
            return False
        return True

    def start(self) -> None:
        """Begin to beat and to write; the harness calls this once."""
        self._write(beat=True)
        self._thread.start()

    def close(self) -> None:
        """Stop beating and write what is left; the harness calls this once."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write(beat=True)

    def _seconds(self) -> float:
        return round(self._base_seconds + time.monotonic() - self._began, 3)

    def _write(self, *, beat: bool) -> None:
        with self._writing:
            with self._guard:
                points, self._buffer = self._buffer, []
                step, steps = self._step, self._steps
            if not points and not beat:
                return
            try:
                run = self._store.leases.beat(
                    self._lease, points, step=step, steps=steps, alive=beat
                )
            except LeaseLostError:
                self._on_lost()
                raise
            except BaseException:
                with self._guard:
                    self._buffer = points + self._buffer
                raise
            self._cancel = self._cancel or run.cancel_requested

    def _pulse(self) -> None:
        beat_at = flush_at = time.monotonic()
        while not self._ending.wait(max(0.0, flush_at + FLUSH_SECONDS - time.monotonic())):
            flush_at = time.monotonic()
            beat = flush_at >= beat_at + BEAT_SECONDS
            try:
                if beat:
                    beat_at = flush_at
                    if (sampler := self._sampler) is not None:
                        self.log_samples(sampler.sample())
                self._write(beat=beat)
            except LeaseLostError:
                return
            except Exception as error:  # the heartbeat must go on, whatever went wrong this time
                print(f"Metrics could not be written, trying again: {error}", flush=True)
