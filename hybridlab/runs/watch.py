"""Judging running workers: alive, dead, silent, or deaf to a cancel."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum, auto

from hybridlab.runs.record import Run, RunState
from hybridlab.runs.verdict import EXIT_DISK_FULL

SILENT_SECONDS = 8.0
STARTING_SECONDS = 60.0
CANCEL_SECONDS = 10.0
KILL_SECONDS = 15.0
_LONGEST_GAP_SECONDS = 1.0


class Judgement(Enum):
    """What to do about a worker."""

    WELL = auto()
    SILENT = auto()
    TERMINATE = auto()
    KILL = auto()


@dataclass
class _Seen:
    heartbeat: int
    quiet_seconds: float = 0.0
    cancel_seconds: float = 0.0
    terminated: bool = False


class Watch:
    """Follows heartbeats by the supervisor's own monotonic clock.

    A counter that stands still counts only for time the supervisor itself was awake, at most a second a look: when
    the whole machine sleeps or stalls, nobody is blamed for it.
    """

    def __init__(self) -> None:
        """Begin with nobody watched."""
        self._seen: dict[str, _Seen] = {}
        self._looked: float | None = None
        self._elapsed = 0.0

    def look(self, now: float, runs: list[Run]) -> None:
        """Begin a look at all running runs at a moment of the monotonic clock, in seconds."""
        gap = 0.0 if self._looked is None else now - self._looked
        self._looked, self._elapsed = now, min(gap, _LONGEST_GAP_SECONDS)
        leases = {run.lease for run in runs}
        self._seen = {lease: seen for lease, seen in self._seen.items() if lease in leases}

    def judge(self, run: Run) -> Judgement:
        """Judge one worker whose process is alive."""
        seen = self._seen.setdefault(run.lease, _Seen(run.heartbeat))
        if run.heartbeat != seen.heartbeat:
            seen.heartbeat, seen.quiet_seconds = run.heartbeat, 0.0
        else:
            seen.quiet_seconds += self._elapsed
        if run.cancel_requested:
            seen.cancel_seconds += self._elapsed
        if seen.cancel_seconds >= KILL_SECONDS:
            return Judgement.KILL
        if seen.cancel_seconds >= CANCEL_SECONDS and not seen.terminated:
            seen.terminated = True
            return Judgement.TERMINATE
        allowed = SILENT_SECONDS if run.heartbeat else STARTING_SECONDS
        return Judgement.SILENT if seen.quiet_seconds >= allowed else Judgement.WELL


def epitaph(run: Run, exit_code: int | None) -> tuple[RunState, str]:
    """Return the state of a run whose worker has died without a word, and the sentence that says so.

    ``exit_code`` is that of ``subprocess``: negative for a signal, None when another process was its parent.
    """
    if run.cancel_requested:
        return RunState.CANCELLED, ""
    again = "resume the run to go on from its last checkpoint"
    if exit_code == EXIT_DISK_FULL:
        return RunState.FAILED, (
            f"The disk was full after step {run.step}; free some room on it, then {again}."
        )
    if exit_code is not None and exit_code > 0 and run.heartbeat == 0:
        return RunState.FAILED, (
            f"The worker process ended before it began (exit code {exit_code}); the log has its words."
        )
    if exit_code is None:
        how = "The worker process died"
    elif exit_code < 0:
        how = f"The worker process was killed ({signal_name(-exit_code)})"
        if -exit_code == signal.SIGKILL:
            how += ", by someone or because the machine ran out of memory,"
    else:
        how = f"The worker process ended without a result (exit code {exit_code})"
    return RunState.INTERRUPTED, f"{how} after step {run.step}; {again}."


def signal_name(number: int) -> str:
    """Return a signal's name, such as ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
