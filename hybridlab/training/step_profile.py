"""Profiles the next steps of a training that is under way, when its folder holds a request; the numbers stay the same.

``torch.profiler`` records by the request's schedule, and traces are written as
``torch.profiler.tensorboard_trace_handler`` does, into ``profile/``. While it records, each component's forward is a
range that carries the component's path.
Source: https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.profiler import ProfilerAction, profile, record_function, schedule

from hybridlab.hardware.devices import free_bytes
from hybridlab.hardware.meters.meter import why
from hybridlab.runs.profile_request import (
    PROFILE,
    ProfileRequest,
    ProfileState,
    asked_ns,
    read,
    write,
)
from hybridlab.trace.marks import RANGE
from hybridlab.units import format_bytes

LOOK_SECONDS = 0.2
"""The folder is looked at most this often."""
MOST_SHARE = 0.25
"""A recording ends before it takes more than this share of the memory that was free when it began."""
KEPT = 10
"""Traces by schedule that are kept, the newest ones."""


class StepProfiler:
    """Watches for requests after each step, and records the steps that follow; by schedule too where there is one."""

    def __init__(self, folder: Path, model: nn.Module, every: int = 0) -> None:
        """Watch a run's folder, and record one step in ``every`` steps by itself; 0 does not.

        A recording that another process began there and never ended is told as such.
        """
        self._folder, self._model, self._every = folder, model, every
        self._scheduled: list[str] = []
        self._looked = time.monotonic() - LOOK_SECONDS
        self._seen_ns = 0
        self._recording: _Recording | None = None
        stale = read(folder)
        if stale is not None and stale.state is ProfileState.RECORDING:
            message = "The run was broken off while the profile was being recorded."
            self._tell(replace(stale, state=ProfileState.FAILED, message=message))

    def after_step(self, step: int) -> None:
        """Note that so many steps are done; begins, goes on or ends a recording. It never raises."""
        if self._recording is not None:
            self._guarded(lambda recording: recording.step())
        elif (now := time.monotonic()) - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look(step)
        if self._every and step and step % self._every == 0 and self._recording is None:
            self._begin(ProfileRequest(1, time.time(), scheduled=True), step)

    def close(self) -> None:
        """End a recording that is under way, with the steps it has, because the training is over."""
        self._guarded(lambda recording: recording.cut_short())

    def _look(self, step: int) -> None:
        written = asked_ns(self._folder)
        if written == self._seen_ns:
            return
        self._seen_ns = written
        request = read(self._folder)
        if request is None or request.state is not ProfileState.ASKED:
            return
        self._begin(request, step)

    def _begin(self, request: ProfileRequest, step: int) -> None:
        try:
            self._recording = _Recording(self._folder, self._model, request, step)
        except Exception as error:
            self._tell(_failed(request, error))
            return
        self._tell(self._recording.request)

    def _guarded(self, act: Any) -> None:
        """Let a recording act; what goes wrong ends it and never the training."""
        recording = self._recording
        if recording is None:
            return
        before = recording.request
        try:
            act(recording)
        except Exception as error:
            recording.abandon()
            recording.request = _failed(recording.request, error)
        if recording.request == before:
            return
        self._tell(recording.request)
        if not recording.request.state.open:
            self._recording = None
            self._keep(recording.request)

    def _keep(self, request: ProfileRequest) -> None:
        """Remove the oldest traces by schedule where there are too many; those that were asked for stay."""
        if request.scheduled and request.file:
            self._scheduled.append(request.file)
        while len(self._scheduled) > KEPT:
            with contextlib.suppress(OSError):
                (self._folder / PROFILE / self._scheduled.pop(0)).unlink(missing_ok=True)

    def _tell(self, request: ProfileRequest) -> None:
        try:
            write(self._folder, request)
        except OSError as error:
            print(f"what became of the profile cannot be written: {error}", flush=True)
        if request.message:
            print(request.message, flush=True)
        self._seen_ns = asked_ns(self._folder)


class _Recording:
    """One profile: once or several times some steps of waiting and of warming up, then those that were asked for.

    What the profiler sees while it warms up is thrown away: the first step pays for its start.
    """

    def __init__(self, folder: Path, model: nn.Module, request: ProfileRequest, step: int) -> None:
        self._place = folder / PROFILE
        self._draft = self._place / ".recording"
        self._hooks = contextlib.ExitStack()
        self._done, self._began = 0, step
        # Events lie between the tensors of a step, whose memory then cannot be used again for larger ones.
        self._resident_bytes, free = resident_bytes(), free_bytes("cpu")
        self._most_bytes = None if free is None else MOST_SHARE * free
        self._running = False
        shutil.rmtree(self._draft, ignore_errors=True)
        self.request = request
        self.request = replace(request, state=ProfileState.RECORDING, first_step=self._first(0))
        self._hooks.enter_context(ranges(model))
        try:
            self._start()
        except BaseException:
            self._hooks.close()
            raise

    def _start(self) -> None:
        """Begin one recording, with a profiler of its own: one that goes on keeps only the last one's events."""
        request, before = self.request, self._began + self._done + 1
        plan = schedule(wait=request.wait, warmup=request.warm_up, active=request.steps, repeat=1)

        def planned(number: int) -> ProfilerAction:
            action: ProfilerAction = plan(max(0, number - before))
            return action

        self._profiler = profile(
            schedule=planned,
            on_trace_ready=torch.profiler.tensorboard_trace_handler(
                str(self._draft), use_gzip=True
            ),
            record_shapes=True,
            profile_memory=True,
        )
        self._profiler.step_num = before  # the steps in the trace are those of the training
        self._profiler.start()
        self._running = True

    def step(self) -> None:
        self._done += 1
        self._profiler.step()
        rounds, rest = divmod(self._done, self.request.cycle)
        if rest:
            taken = resident_bytes() - self._resident_bytes
            if self._most_bytes is not None and taken > self._most_bytes:
                self._end(
                    f"It had taken {format_bytes(taken)} of memory, a quarter of what was free,"
                )
            return
        self._stop()
        self._publish(rounds - 1, self.request.steps)
        if rounds == self.request.repeat:
            self._finish("")
            return
        self.request = replace(self.request, first_step=self._first(rounds))
        self._start()

    def cut_short(self) -> None:
        """End early because the training is over: what was recorded is written, unless it is nothing."""
        self._end("The run ended")

    def _end(self, why: str) -> None:
        """End early: what was recorded is written, unless it is nothing; ``why`` begins the sentence that says so."""
        rounds, rest = divmod(self._done, self.request.cycle)
        recorded = rest - self.request.wait - self.request.warm_up
        if recorded > 0:
            self._stop()
            self._publish(rounds, recorded)
            asked = self.request.steps
            self._finish(f"{why} after {recorded} of the {asked} steps; the trace holds those.")
            return
        self.abandon()
        if rounds:
            message = f"{why} after {rounds} of the {self.request.repeat} recordings."
            self.request = replace(
                self.request,
                state=ProfileState.WRITTEN,
                message=message,
                first_step=self._first(rounds - 1),
            )
            return
        message = f"{why} before a step was profiled; there is no trace."
        self.request = replace(self.request, state=ProfileState.FAILED, message=message)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._hooks.close()
        self._profiler.on_trace_ready = None
        with contextlib.suppress(Exception):
            self._stop()
        shutil.rmtree(self._draft, ignore_errors=True)

    def _stop(self) -> None:
        """Stop the profiler once: a second time would write the trace again, from memory that it has given back."""
        if self._running:
            self._running = False
            self._profiler.stop()

    def _first(self, rounds: int) -> int:
        """Return the first step that is kept after so many recordings."""
        waited = self.request.wait + self.request.warm_up
        return self._began + 1 + rounds * self.request.cycle + waited

    def _publish(self, rounds: int, recorded: int) -> None:
        """Give the trace, whole, to the folder under the name that the handler gave it."""
        (trace,) = self._draft.iterdir()
        goal = self._place / trace.name
        trace.replace(goal)
        self.request = replace(
            self.request,
            first_step=self._first(rounds),
            recorded=recorded,
            written=self.request.written + 1,
            file=goal.name,
            size_bytes=goal.stat().st_size,
        )

    def _finish(self, message: str) -> None:
        self._hooks.close()
        self._draft.rmdir()
        self.request = replace(self.request, state=ProfileState.WRITTEN, message=message)


def resident_bytes() -> int:
    """Return the memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


@contextlib.contextmanager
def ranges(model: nn.Module) -> Iterator[None]:
    """Let the profiler see the forward of each component as ``component: PATH``, such as ``stage.0.mamba2``.

    A model that does not name its components (``slots``) has no ranges.
    """
    slots = getattr(model, "slots", None)
    with contextlib.ExitStack() as hooks:
        for path, slot in slots() if slots is not None else ():
            begun: list[Any] = []

            def begin(module: nn.Module, given: Any, path: str = path, begun: Any = begun) -> None:
                entered = record_function(f"{RANGE}{path}")
                entered.__enter__()  # type: ignore[no-untyped-call]
                begun.append(entered)

            def end(module: nn.Module, given: Any, came: Any, begun: Any = begun) -> None:
                begun.pop().__exit__(None, None, None)

            hooks.callback(slot.register_forward_pre_hook(begin).remove)
            hooks.callback(slot.register_forward_hook(end, always_call=True).remove)
        yield


def _failed(request: ProfileRequest, error: BaseException) -> ProfileRequest:
    message = f"The profile could not be made: {type(error).__name__}: {why(error)}"
    return replace(request, state=ProfileState.FAILED, message=message)
