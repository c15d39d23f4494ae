"""Optuna's journal file, written so that a search is not held up by its disk and half a record does no harm.

The format is Optuna's own (``JournalFileBackend``), so the dashboard and Optuna itself read and write the same file.
Two things are different: only what ends a trial or makes a study waits for the disk (a killed process loses nothing
that it wrote, only a power cut may take the beginnings of trials), and what a kill leaves behind does no harm: a record
cut short is taken off before the next is written, where it would otherwise make the whole study unreadable, and a lock
is taken over at once, where Optuna waits for 30 seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from hybridlab.runs.lock import Lock

LASTING = frozenset({0, 1, 2, 6})
"""Operations that wait for the disk: studies made, deleted and described, trials ended (Optuna's JournalOperation)."""
_TAIL_BYTES = 1 << 16


class Journal(JournalFileBackend):
    """A journal file that several processes may write at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, which is made where there is none; its folder must be there."""
        self.path = Path(path)
        self._turn = _Turn(self.path)
        super().__init__(str(self.path), self._turn)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records behind the last whole one."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._turn.acquire()
        try:
            with self.path.open("r+b") as file:
                file.seek(_whole_bytes(file))
                file.truncate()
                file.write(text.encode())
                file.flush()
                if any(log.get("op_code") in LASTING for log in logs):
                    os.fsync(file.fileno())
        finally:
            self._turn.release()


class _Turn(JournalFileSymlinkLock):
    """Optuna's lock, a link beside the file, taken under a lock of ours that the system takes back from the dead.

    Our links lead to the file by a way that Optuna's do not (``/folder/./name``): whoever holds our lock and finds such
    a link knows that its maker is dead.
    """

    def __init__(self, path: Path) -> None:
        folder = path.absolute().parent
        self._target = f"{folder}/./{path.name}"
        self._link = Path(f"{self._target}.lock")
        self._ours = Lock(folder / f"{path.name}.turn")
        super().__init__(self._target)

    def acquire(self) -> bool:
        """Take both locks, waiting for those that live."""
        self._ours.acquire(wait=True)
        try:
            # (not by pathlib, which shortens the way)
            if self._link.is_symlink() and os.readlink(self._link) == self._target:  # noqa: PTH115
                self._link.unlink(missing_ok=True)
            return super().acquire()
        except BaseException:
            self._ours.release()
            raise

    def release(self) -> None:
        """Give both back."""
        try:
            super().release()
        finally:
            self._ours.release()


def _whole_bytes(file: Any) -> int:
    """Return where the last whole record ends."""
    end = int(file.seek(0, os.SEEK_END))
    reach = end
    while reach:
        begin = max(0, reach - _TAIL_BYTES)
        file.seek(begin)
        newline = file.read(reach - begin).rfind(b"\n")
        if newline >= 0:
            return begin + int(newline) + 1
        reach = begin
    return 0
