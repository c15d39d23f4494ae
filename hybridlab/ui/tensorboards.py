"""TensorBoard as a process of a session: on a free port of this machine only, gone with the session or the server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

COMMAND = (sys.executable, "-m", "hybridlab.workflows.tensorboard")
_LOOK_SECONDS = 2.0
_GRACE_SECONDS = 20.0
"""A session without a browser for so long has ended: a page that is loaded anew is back much sooner."""
_STOP_SECONDS = 5.0


class TensorBoard:
    """One TensorBoard on one folder; ``url`` is None until it serves, ``failure`` says why it never will."""

    def __init__(self, folder: Path, command: tuple[str, ...] = COMMAND) -> None:
        """Start it; that takes some seconds, and nobody has to wait for them."""
        self.folder = folder
        self.url: str | None = None
        self.failure = ""
        self._stopped = threading.Event()
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._process = None
            self.failure = (
                f"TensorBoard cannot be started: {(error.strerror or str(error)).lower()}"
            )
            return
        self._listener = threading.Thread(target=self._listen, name="tensorboard", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it, with the processes that it started."""
        self._stopped.set()
        self.url = None
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._listener.join(_STOP_SECONDS)

    def watch(self, here: Callable[[], bool], grace_s: float = _GRACE_SECONDS) -> None:
        """Stop it once ``here`` has said no for so many seconds; looks now and then in a thread of its own."""
        threading.Thread(
            target=self._watch, args=(here, grace_s), name="tensorboard-watch", daemon=True
        ).start()

    def _watch(self, here: Callable[[], bool], grace_s: float) -> None:
        seen = time.monotonic()
        while self.alive and not self._stopped.wait(min(_LOOK_SECONDS, grace_s / 2)):
            if here():
                seen = time.monotonic()
            elif time.monotonic() - seen >= grace_s:
                self.stop()

    def _listen(self) -> None:
        """Take the address from the process's first line, then keep its pipes empty until it ends."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        last: list[str] = []
        reading = threading.Thread(target=_drain, args=(process.stderr, last), daemon=True)
        reading.start()
        with process.stdout:
            line = process.stdout.readline()
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.url = str(json.loads(line)["url"])
            served = self.url is not None
            process.stdout.read()
        process.wait()
        reading.join(1.0)
        self.url = None
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if not self._stopped.is_set():
            how = " by itself" if served else ""
            reason = f"exit code {process.returncode}" if served or not last else last[-1][:300]
            self.failure = f"TensorBoard ended{how}: {reason}"


def _drain(pipe: IO[bytes], last: list[str]) -> None:
    """Read a pipe to its end and keep its last line."""
    with pipe:
        for line in pipe:
            if text := line.decode("utf-8", "replace").strip():
                last[:] = [text]
