"""A bell in the home folder: whoever changes a run rings it, so that the supervisor need not wait for its next look."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

BELL_NAME = "supervisor.bell"


def ring(home: Path) -> None:
    """Wake the supervisor of a home; silent when there is none, it looks by itself soon enough."""
    with contextlib.suppress(OSError):
        descriptor = os.open(home / BELL_NAME, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"!")
        finally:
            os.close(descriptor)


class Bell:
    """The supervisor's end; on a file system without named pipes it only sleeps."""

    def __init__(self, home: Path) -> None:
        """Hang up the bell."""
        self._descriptor: int | None = None
        path = home / BELL_NAME
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> bool:
        """Sleep until the bell rings or the time is over; say whether it rang."""
        if self._descriptor is None:
            time.sleep(seconds)
            return False
        rang, _, _ = select.select([self._descriptor], [], [], seconds)
        if rang:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, 65536)
        return bool(rang)

    def close(self) -> None:
        """Take the bell down; the pipe stays for the next supervisor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
