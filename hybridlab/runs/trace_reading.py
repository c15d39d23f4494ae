"""Processes that read traces: started, looked at and ended by whoever shows a page; a new server finds them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hybridlab.errors import Problem
from hybridlab.runs.home import unwritable
from hybridlab.runs.pool import child_environment, module_command
from hybridlab.runs.processes import birth, is_alive, send
from hybridlab.runs.traces import SUMMARY, trace_folder

MODULE = "hybridlab.workflows.read_trace"
REQUEST, RESULT = "request.json", "result.json"
"""In the folder of something that is worked out from several traces."""
ERROR, PROGRESS = "error.json", "progress.json"
_PROCESS, _CANCELLED, _LOG = "process.json", "cancelled", "log.txt"
_LAST_LETTERS = 300

_guard = threading.Lock()
_children: dict[str, subprocess.Popen[bytes]] = {}


class ReadingState(StrEnum):
    """How far a reading has come."""

    NEW = "new"
    READING = "reading"
    READ = "read"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Reading:
    """A reading as it stands: its state, what it is doing, for how long, and what went wrong."""

    state: ReadingState
    stage: str = ""
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()


def beside(verb: str, trace_ids: Sequence[str]) -> Path:
    """Return the folder for what is worked out from several traces; it is the same each time.

    ``verb`` is compare (two) or ranks (one or more); the folder belongs to the first trace and goes with it.

    Raises:
        RunError: an id does not have the form of one.
        StoreError: the folder cannot be written.
    """
    folders = [trace_folder(trace_id) for trace_id in trace_ids]
    name = hashlib.sha256("/".join(trace_ids).encode()).hexdigest()[:16]
    folder = folders[0] / "beside" / f"{verb}-{name}"
    if not (folder / REQUEST).exists():
        _write(folder, REQUEST, {"verb": verb, "traces": list(trace_ids)})
    return folder


def start(folder: Path) -> None:
    """Start a process that reads the trace of a folder, or works out what its request says.

    What an earlier one left is done anew.

    Raises:
        StoreError: the folder cannot be written.
    """
    with _guard:
        if look(folder).state is ReadingState.READING:
            return
        try:
            for name in (ERROR, PROGRESS, _CANCELLED, _PROCESS, SUMMARY, RESULT):
                (folder / name).unlink(missing_ok=True)
            with (folder / _LOG).open("wb") as log:
                child = subprocess.Popen(
                    module_command(MODULE, str(folder)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=os.sep,
                    env=child_environment(),
                )
        except OSError as error:
            raise unwritable(folder, error) from None
        _children[str(folder)] = child
        named = {"pid": child.pid, "birth": birth(child.pid) or "", "started_at": time.time()}
        _write(folder, _PROCESS, named)


def look(folder: Path) -> Reading:
    """Return how far the reading of a folder has come."""
    process = _known(folder, _PROCESS)
    if process is None:
        return Reading(ReadingState.READ if _done(folder) else ReadingState.NEW)
    seconds = max(0.0, time.time() - float(process.get("started_at", 0.0)))
    # The result is looked for again after the process: it may have ended between the two.
    alive = not _done(folder) and _alive(folder, process)
    if _done(folder):
        return Reading(ReadingState.READ, seconds=seconds)
    if (error := _known(folder, ERROR)) is not None:
        return Reading(ReadingState.FAILED, problems=_problems(error))
    if alive:
        told = _known(folder, PROGRESS) or {}
        return Reading(ReadingState.READING, str(told.get("stage", "starting")), seconds)
    if (folder / _CANCELLED).exists():
        return Reading(ReadingState.CANCELLED)
    why = Problem(
        folder.name,
        "the process that read it ended before it was done",
        got=_last_words(folder),
        fix="read it again; if it ends again, the machine may not have the memory for it",
    )
    return Reading(ReadingState.INTERRUPTED, problems=(why,))


def cancel(folder: Path) -> None:
    """End the process that reads a folder; one that is done stays done."""
    process = _known(folder, _PROCESS)
    if process is None or not _alive(folder, process):
        return
    with contextlib.suppress(OSError):
        (folder / _CANCELLED).touch()
    send(int(process["pid"]), str(process["birth"]), signal.SIGKILL)


def wait(folder: Path, timeout_s: float = 60.0) -> Reading:
    """Wait until a reading has ended, or for so long, and return how it stands."""
    deadline = time.monotonic() + timeout_s
    while (found := look(folder)).state is ReadingState.READING and time.monotonic() < deadline:
        time.sleep(0.02)
    child = _children.pop(str(folder), None) if found.state is not ReadingState.READING else None
    if child is not None:
        child.wait()
    return found


def _done(folder: Path) -> bool:
    return (folder / SUMMARY).exists() or (folder / RESULT).exists()


def _alive(folder: Path, process: Mapping[str, Any]) -> bool:
    child = _children.get(str(folder))
    if child is not None and child.pid == process.get("pid"):
        if child.poll() is None:
            return True
        _children.pop(str(folder), None)
        return False
    try:
        return is_alive(int(process["pid"]), str(process["birth"]))
    except (KeyError, TypeError, ValueError):
        return False


def _known(folder: Path, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _problems(error: Mapping[str, Any]) -> tuple[Problem, ...]:
    try:
        return tuple(Problem(**each) for each in error["errors"])
    except (KeyError, TypeError):
        return (Problem("", "the trace was refused, and why cannot be read"),)


def _write(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(folder / name)
    except OSError as error:
        raise unwritable(folder, error) from None


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:_LAST_LETTERS] if lines else ""
