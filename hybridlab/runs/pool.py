"""Worker processes: started for a run, or kept warm beforehand, since importing torch takes seconds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import hybridlab
from hybridlab.runs.slots import worker_environment

SPARES_VARIABLE = "HYBRIDLAB_SPARES"
STAGGER_SECONDS = 4.0
_PAUSE_AFTER_DEATH_SECONDS = 60.0
_NOTHING: Mapping[str, str] = {}


def spare_count(default: int) -> int:
    """Return how many workers to keep warm: ``HYBRIDLAB_SPARES``, or a default where it is no number."""
    text = os.environ.get(SPARES_VARIABLE, "").strip()
    return int(text) if text.isascii() and text.isdigit() else default


def child_environment() -> dict[str, str]:
    """Return the environment for child processes, in which this very hybridlab package is found from any folder."""
    package = str(Path(hybridlab.__file__).resolve().parent.parent)
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    path = [package, *(part for part in given if part != package)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in this Python, the present folder kept off the import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


class WorkerPool:
    """Starts workers, each in a session of its own, waiting on standard input for the run it is to do."""

    def __init__(self, command: Sequence[str], threads: int, spares: int, log: Path) -> None:
        """Keep up to ``spares`` workers warm for runs of so many ``threads``; spares speak into ``log``."""
        self._command = list(command)
        self._threads = threads
        self._wanted = spares
        self._log = log
        self._spares: list[subprocess.Popen[bytes]] = []
        self._not_before = 0.0

    def take(
        self, threads: int, log: Path, born_with: Mapping[str, str] = _NOTHING
    ) -> subprocess.Popen[bytes]:
        """Return a worker for a run of so many threads, a warm one if there is one; it speaks into ``log``.

        ``born_with`` are variables that must be there before it imports anything, so that a warm one will not do.
        """
        while threads == self._threads and self._spares and not born_with:
            spare = self._spares.pop(0)
            if spare.poll() is None:
                return spare
        self._not_before = max(self._not_before, time.monotonic() + STAGGER_SECONDS)
        with log.open("ab") as output:
            return self._start(threads, output, born_with)

    def top_up(self) -> None:
        """Start at most one spare that is missing, some time after the last start, which is still busy importing."""
        now = time.monotonic()
        alive = [spare for spare in self._spares if spare.poll() is None]
        if len(alive) < len(self._spares):
            self._not_before = now + _PAUSE_AFTER_DEATH_SECONDS
        self._spares = alive
        if len(alive) < self._wanted and now >= self._not_before:
            self._not_before = now + STAGGER_SECONDS
            with self._log.open("ab") as output:
                self._spares.append(self._start(self._threads, output))

    def close(self) -> None:
        """Let the spares go; each ends when its input closes."""
        for spare in self._spares:
            _close_input(spare)
        for spare in self._spares:
            try:
                spare.wait(2)
            except subprocess.TimeoutExpired:
                spare.kill()
                spare.wait()
        self._spares = []

    def _start(
        self, threads: int, output: IO[bytes], born_with: Mapping[str, str] = _NOTHING
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=child_environment() | worker_environment(threads, "", "") | dict(born_with),
        )


def assign(
    worker: subprocess.Popen[bytes], run_id: str, token: str, environment: Mapping[str, str]
) -> None:
    """Tell a waiting worker which run is its own; harmless when it has died meanwhile."""
    line = json.dumps({"run": run_id, "token": token, "environment": dict(environment)})
    if worker.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(line.encode() + b"\n")
            worker.stdin.flush()
    _close_input(worker)


def dismiss(worker: subprocess.Popen[bytes]) -> None:
    """Send a waiting worker home without work."""
    _close_input(worker)


def _close_input(worker: subprocess.Popen[bytes]) -> None:
    if worker.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
