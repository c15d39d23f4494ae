"""Quiet turns on a device: whoever measures there has it alone, and those who only work beside wait meanwhile.

Two files per device, whose locks the system lets go of when their holder dies. All who work share the floor. Who
measures shuts the gate, at which the others let go of the floor between two of their steps and wait, and then takes
the floor alone. https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 120.0
"""So long one waits for others, who may be in the middle of a long step, or stopped; then one goes on beside them."""
_POLL_SECONDS = 0.01
_Held = int


class QuietTurns:
    """One process's part in the turns on a device."""

    def __init__(self, folder: Path, device: str, *, patience_s: float = PATIENCE_SECONDS) -> None:
        """Name the files, which all who keep to the turns share; nothing is held yet.

        Raises:
            OSError: the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W", "-", device)
        self._gate, self._floor = folder / f"quiet-{name}.gate", folder / f"quiet-{name}.floor"
        self._patience_s = patience_s
        self._mine: _Held | None = None

    @contextmanager
    def working(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Work beside others; ``give_way`` between two steps lets those who measure have their turn."""
        self._enter(should_stop)
        try:
            yield
        finally:
            self._leave()

    def give_way(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Wait where somebody measures, or wants to, until that is through; else go on at once."""
        if self._mine is not None and self.wanted:
            self._leave()
            self._enter(should_stop)

    @property
    def wanted(self) -> bool:
        """Whether somebody measures, or waits to."""
        held = _take(self._gate, fcntl.LOCK_SH)
        if held is None:
            return True
        os.close(held)
        return False

    @contextmanager
    def alone(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Have the device alone in here; false where somebody would not give way in time. One's own work is let go."""
        worked = self._mine is not None
        self._leave()
        with contextlib.ExitStack() as held:
            gate = self._wait(self._gate, fcntl.LOCK_EX, should_stop)
            if gate is not None:
                held.callback(os.close, gate)
            floor = self._wait(self._floor, fcntl.LOCK_EX, should_stop)
            if floor is not None:
                held.callback(os.close, floor)
            yield gate is not None and floor is not None
        if worked:
            self._enter(should_stop)

    def _enter(self, should_stop: Callable[[], bool]) -> None:
        gate = self._wait(self._gate, fcntl.LOCK_SH, should_stop)
        self._mine = _take(self._floor, fcntl.LOCK_SH)
        if gate is not None:
            os.close(gate)

    def _leave(self) -> None:
        if self._mine is not None:
            os.close(self._mine)
            self._mine = None

    def _wait(self, path: Path, how: int, should_stop: Callable[[], bool]) -> _Held | None:
        """Return a lock once it is free; None where it is not in time, or one is to stop."""
        until = time.monotonic() + self._patience_s
        while (held := _take(path, how)) is None:
            if should_stop() or time.monotonic() > until:
                return None
            time.sleep(_POLL_SECONDS)
        return held


def _take(path: Path, how: int) -> _Held | None:
    """Return a lock on a file, shared or exclusive, never inherited by child processes; None where others hold it."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    except BaseException:
        os.close(held)
        raise
    return held
