"""What a run is: its record, its states, its id and the JSON it carries."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hybridlab.errors import Problem, RunError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_EPOCH_MS = 1_735_689_600_000
_ID = re.compile(rf"[{_ALPHABET}]{{12}}")
_LONGEST_NAME = 200
_last_moment = [0]
_last_moment_guard = threading.Lock()


class RunState(StrEnum):
    """Where a run stands; ``QUEUED`` and ``RUNNING`` are active, the others have ended."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"

    @property
    def active(self) -> bool:
        """Say whether a worker has the run or will get it."""
        return self in ACTIVE

    @property
    def resumable(self) -> bool:
        """Say whether the run may be put back into the queue."""
        return self in RESUMABLE


ACTIVE = frozenset({RunState.QUEUED, RunState.RUNNING})
RESUMABLE = frozenset({RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED})


@dataclass(frozen=True)
class Run:
    """One row of the store.

    ``created``, ``started`` and ``ended`` are wall-clock seconds since 1970, for display only; nothing is decided by
    them. ``threads`` are the cores the run holds, the same on every attempt. ``device`` is what was asked for,
    ``granted`` what the supervisor gave. ``lease`` is the token of the worker that may write, ``heartbeat`` the count
    it keeps raising; ``pid`` and ``birth`` name its process so that a recycled pid is not mistaken for it.
    ``truncations`` grows when points were taken back, so that a reader knows to read from the start.
    """

    id: str
    kind: str
    name: str
    state: RunState
    owner: str
    created: float
    started: float | None
    ended: float | None
    threads: int
    device: str
    spec: Mapping[str, Any]
    step: int
    steps: int
    result: Mapping[str, Any] | None
    error: str
    parent: str | None
    cancel_requested: bool
    heartbeat: int
    attempt: int
    granted: str
    home: str = field(repr=False)
    pid: int | None = field(repr=False)
    birth: str = field(repr=False)
    lease: str = field(repr=False)
    truncations: int = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what is of interest outside, as plain JSON: no lease, no process."""
        hidden = {"home", "pid", "birth", "lease", "heartbeat", "truncations"}
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in shown.items() if name not in hidden} | {
            "state": str(self.state),
            "spec": dict(self.spec),
            "result": None if self.result is None else dict(self.result),
        }


def new_id() -> str:
    """Return a new run id: 12 characters, safe in URLs and paths, that sort by time.

    Two of one process sort in the order they were made; those of different processes to the millisecond.
    """
    with _last_moment_guard:
        moment = max(_last_moment[0] + 1, time.time_ns() // 1_000_000 - _EPOCH_MS)
        _last_moment[0] = moment
    stamp = "".join(_ALPHABET[(moment >> shift) & 31] for shift in range(35, -1, -5))
    return stamp + "".join(secrets.choice(_ALPHABET) for _ in range(4))


def check_id(run_id: str) -> str:
    """Return the id if it has the form of one.

    Raises:
        RunError: it does not, so it names no run and must not become part of a path.
    """
    if not _ID.fullmatch(run_id):
        raise RunError(
            Problem(
                "run", "this is not a run id", "12 letters and digits", _shorten(repr(run_id), 60)
            )
        )
    return run_id


def clean_name(text: str, fallback: str) -> str:
    """Return a name fit to store and show: one line, no control characters, at most 200 characters."""
    valid = text.encode("utf-8", "replace").decode("utf-8")
    line = "".join(char if char.isprintable() else " " for char in valid)
    return _shorten(" ".join(line.split()), _LONGEST_NAME) or fallback


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def spec_text(spec: Mapping[str, Any]) -> str:
    """Write a run's settings as JSON.

    Raises:
        RunError: something in it is not JSON, or a number is not finite.
    """
    try:
        text = json.dumps(spec, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(
            Problem("spec", "the run's settings are not plain JSON", got=str(error))
        ) from None
    return text.encode("utf-8", "replace").decode("utf-8")


def json_ready(value: Any) -> Any:
    """Turn a result into plain JSON: arrays and scalars become numbers, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(item) for item in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value).encode("utf-8", "replace").decode("utf-8")
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    raise TypeError(f"a result holds a {type(value).__name__}, which is not plain JSON")
