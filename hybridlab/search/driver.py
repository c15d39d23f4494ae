"""The process that drives a study for a page: started once, on its own from then on, and stopped by a signal.

Beside the study's journal stand what was asked of it (``NAME.request.json``), which process it is
(``NAME.driver.json``), what it said (``NAME.log``), and how it ended (``NAME.ended.json``). Free of torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridlab.errors import HybridLabError, Problem, RunError
from hybridlab.runs import processes
from hybridlab.runs.home import unwritable
from hybridlab.runs.lock import Lock
from hybridlab.runs.pool import child_environment, module_command
from hybridlab.search.places import check_name, searches_folder

MODULE = "hybridlab.workflows.search_anew"
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Request:
    """What a driver is to do: the search file's content, trials in all, the sampler, and workers at once."""

    file: dict[str, Any]
    trials: int
    sampler: str
    workers: int


@dataclass(frozen=True)
class Driver:
    """The process that was started last for a study; ``problems`` say why it ended, if it did so badly."""

    request: Request
    alive: bool
    started: float
    stopping: bool
    problems: tuple[Problem, ...] = ()


def start_driver(name: str, request: Request) -> None:
    """Start a process that makes the study, or goes on with it; it outlives whoever asks for it.

    Raises:
        SpecError: the name is none.
        RunError: a process works on the study already.
        StoreError: the folder cannot be written.
    """
    folder = searches_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        turn = Lock(_file(name, "starting"))
        turn.acquire(wait=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        known = driver(name)
        if known is not None and known.alive:
            raise RunError(
                Problem(name, "is being worked on already", fix="stop it first, or wait for it")
            )
        _file(name, "ended.json").unlink(missing_ok=True)
        _file(name, "stop").unlink(missing_ok=True)
        _write(_file(name, "request.json"), asdict(request))
        with _file(name, "log").open("ab") as log:
            child = subprocess.Popen(
                module_command(MODULE, name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                start_new_session=True,
            )
        _children.append(child)
        born = processes.birth(child.pid) or ""
        _write(
            _file(name, "driver.json"), {"pid": child.pid, "birth": born, "started": time.time()}
        )
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        turn.release()


def driver(name: str) -> Driver | None:
    """Return the process that a page started for a study; None where none ever was."""
    _children[:] = [child for child in _children if child.poll() is None]  # those that ended
    about, asked = _read(_file(name, "driver.json")), _read(_file(name, "request.json"))
    try:
        request = Request(**asked)
        pid, born, started = int(about["pid"]), str(about["birth"]), float(about["started"])
    except (KeyError, TypeError, ValueError):
        return None
    alive = processes.is_alive(pid, born)
    ended = _read(_file(name, "ended.json"))
    told = tuple(Problem(**one) for one in ended.get("problems", ()))
    if not alive and not ended:
        told = (
            Problem(
                name,
                "its process ended without a word",
                fix="go on with it; nothing that was finished is lost",
            ),
        )
    return Driver(request, alive, started, alive and _file(name, "stop").exists(), told)


def stop_driver(name: str) -> bool:
    """Ask a study's process to stop after what it is at; what still runs is given back. Say whether there was one."""
    about = _read(_file(name, "driver.json"))
    if not processes.is_alive(about.get("pid"), str(about.get("birth", ""))):
        return False
    _file(name, "stop").touch()
    return processes.send(int(about["pid"]), str(about["birth"]), signal.SIGTERM)


def keep_design(text: str) -> Path:
    """Keep the text of an architecture that is searched around, under a name that its content gives; return the file.

    Raises:
        StoreError: the folder cannot be written.
    """
    folder = searches_folder() / "designs"
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    try:
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
    except OSError as error:
        raise unwritable(folder, error) from None
    return file


def requested(name: str) -> Request:
    """Return what the process of a study is to do.

    Raises:
        RunError: nobody has asked for anything.
    """
    try:
        return Request(**_read(_file(name, "request.json")))
    except TypeError:
        raise RunError(Problem(name, "nothing was asked of this study")) from None


def note_end(name: str, error: HybridLabError | None) -> None:
    """Note how a driver ended."""
    problems = [problem.as_dict() for problem in error.problems] if error else []
    _write(_file(name, "ended.json"), {"at": time.time(), "problems": problems})


def _file(name: str, ending: str) -> Path:
    return searches_folder() / f"{check_name(name)}.{ending}"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(file)
