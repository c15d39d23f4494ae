"""The wish that a running training profiles its next steps: a small file in the run's folder, from page to worker.

The one who asks writes it, the worker notices, records, and writes how it went into the same file. The trace lies
beside it, as ``torch.profiler.tensorboard_trace_handler`` names it.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hybridlab.errors import Problem, RunError
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store

PROFILE = "profile"
"""The folder in a run's folder that holds traces; it is what TensorBoard is started on."""
MOST_STEPS = 200
MOST_WAIT, MOST_WARM_UP, MOST_REPEATS = 1_000_000, 100, 10
_FILE = "request.json"
_TRACE = re.compile(r".+\.\d+\.pt\.trace\.json(\.gz)?")


class ProfileState(StrEnum):
    """How far a profile has come; ``FAILED`` ones have no trace, and their message says why."""

    ASKED = "asked"
    RECORDING = "recording"
    WRITTEN = "written"
    FAILED = "failed"

    @property
    def open(self) -> bool:
        """Say whether it is still to come."""
        return self in (ProfileState.ASKED, ProfileState.RECORDING)


@dataclass(frozen=True)
class ProfileRequest:
    """What was asked for and what came of it.

    Of every recording the first ``wait`` steps run without the profiler, then ``warm_up`` with it that are thrown away,
    then ``steps`` that are kept; ``repeat`` says how often, each time into a trace of its own, as
    ``torch.profiler.schedule`` has it. ``first_step`` is the first step that is in the newest trace, ``recorded`` how
    many are, ``written`` how many traces there are; ``file`` is the newest one's name; ``message`` is a sentence where
    there is something to say; ``asked_at`` is seconds since 1970; ``scheduled`` ones were asked for by the training's
    settings.
    """

    steps: int
    asked_at: float
    state: ProfileState = ProfileState.ASKED
    first_step: int | None = None
    recorded: int = 0
    file: str = ""
    size_bytes: int = 0
    message: str = ""
    scheduled: bool = False
    wait: int = 0
    warm_up: int = 1
    repeat: int = 1
    written: int = 0

    @property
    def cycle(self) -> int:
        """Steps that one recording takes."""
        return self.wait + self.warm_up + self.steps

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return {**asdict(self), "state": str(self.state)}


def ask(
    run_id: str, steps: int, *, wait: int = 0, warm_up: int = 1, repeat: int = 1
) -> ProfileRequest:
    """Ask a queued or running run to profile its next steps; it begins within a fraction of a second and a step.

    See ``ProfileRequest`` for the schedule.

    Raises:
        RunError: there is no such run, it has ended, is another home's or is being profiled already, or a number of
            the schedule is out of range.
        StoreError: the store cannot be read.
    """
    where = f"run {run_id}"
    _checked(steps, wait, warm_up, repeat)
    run = open_store().get(run_id)
    if not run.state.active:
        raise RunError(
            Problem(
                where,
                f"has ended ({run.state.lower()}), so there are no next steps to profile",
                fix="resume it, or start another training",
            )
        )
    if run.home != home_id():
        raise RunError(
            Problem(
                where,
                "belongs to another HybridLab folder",
                fix="ask on the machine and in the folder it was started from",
            )
        )
    known = read(run_folder(run_id))
    if known is not None and known.state.open:
        raise RunError(
            Problem(where, f"is being profiled already ({known.state})", fix="wait for that trace")
        )
    request = ProfileRequest(steps, time.time(), wait=wait, warm_up=warm_up, repeat=repeat)
    try:
        write(run_folder(run_id), request)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunError(
            Problem(str(run_folder(run_id) / PROFILE), f"cannot be written: {reason}")
        ) from None
    return request


def _checked(steps: int, wait: int, warm_up: int, repeat: int) -> None:
    limits = (
        ("steps", steps, 1, MOST_STEPS),
        ("wait", wait, 0, MOST_WAIT),
        ("warm_up", warm_up, 1, MOST_WARM_UP),
        ("repeat", repeat, 1, MOST_REPEATS),
    )
    problems = [
        Problem(name, "cannot be profiled at once", f"{least} to {most}", str(value))
        for name, value, least, most in limits
        if not least <= value <= most
    ]
    if problems:
        raise RunError(problems)


def look(run: Run) -> ProfileRequest | None:
    """Return what became of the last request to a run; None where there was none.

    One that is still open when the run has ended came to nothing, and says so.

    Raises:
        RunError: the run's id does not have the form of one.
    """
    found = read(run_folder(run.id))
    if found is None or run.state.active or not found.state.open:
        return found
    how = "began" if found.state is ProfileState.ASKED else "was written"
    message = f"The run ended ({run.state.lower()}) before the profile {how}."
    return replace(found, state=ProfileState.FAILED, message=message)


def traces(run_id: str) -> list[Path]:
    """Return the traces in a run's folder, newest first.

    Raises:
        RunError: the id does not have the form of one.
    """
    folder = run_folder(run_id) / PROFILE
    try:
        found = [path for path in folder.iterdir() if _TRACE.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []


def read(folder: Path) -> ProfileRequest | None:
    """Return the request in a run's folder; a file that is missing or damaged is none."""
    try:
        content = json.loads((folder / PROFILE / _FILE).read_text(encoding="utf-8"))
        return ProfileRequest(**{**content, "state": ProfileState(content["state"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(folder: Path, request: ProfileRequest) -> None:
    """Replace the request in a run's folder, whole.

    Raises:
        OSError: it cannot be written.
    """
    place = folder / PROFILE
    place.mkdir(parents=True, exist_ok=True)
    draft = place / f".{_FILE}.{os.getpid()}"
    draft.write_text(json.dumps(request.as_dict()), encoding="utf-8")
    draft.replace(place / _FILE)


def asked_ns(folder: Path) -> int:
    """Return when the request file was last written, 0 where there is none: cheap enough to be asked often."""
    try:
        return os.stat(folder / PROFILE / _FILE).st_mtime_ns  # noqa: PTH116  (half the time of Path.stat)
    except OSError:
        return 0
