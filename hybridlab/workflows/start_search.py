"""Starts and stops searches for a page: the driver is a process of its own that outlives the page. Free of torch."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from hybridlab.errors import Problem, RunError
from hybridlab.runs import processes
from hybridlab.runs.home import unwritable
from hybridlab.runs.pool import child_environment, module_command
from hybridlab.search.again import try_again
from hybridlab.search.leases import Leases, machine
from hybridlab.search.places import check_name, opened, place_of, searches_folder
from hybridlab.search.spec import search_of
from hybridlab.search.study import close
from hybridlab.writing import write_whole

_LAST_BYTES = 2_000


def start_search(text: str, *, study: str = "", trials: int | None = None, workers: int = 1) -> str:
    """Begin a search from a search file's text, or go on with the study of a name; return the study's name at once.

    What goes wrong later, such as a node that the architecture does not have, stands in ``last_words``.

    Raises:
        SpecError: the text is no search, or the name is none.
        StoreError: the home folder cannot be written.
    """
    spec = search_of(text)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    name = check_name(study or f"{spec.name}-{stamp}")
    folder = searches_folder()
    file = folder / f"{name}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise unwritable(folder, error) from None
    _spawn(name, "--file", str(file), "--trials", str(trials or spec.trials), workers=workers)
    return name


def resume_search(study: str, *, workers: int = 1) -> None:
    """Have a process go on with a study that exists, beside whoever works on it.

    Raises:
        RunError: there is none of that name here.
    """
    _there(study)
    _spawn(study, workers=workers)


def repeat_trial(study: str, number: int, times: int, *, workers: int = 1) -> None:
    """Try a trial's design so many times more, with other seeds, so that it shows what its values vary by chance.

    Raises:
        RunError: there is no such study or trial, or the trial has no values.
        StoreError: the study's storage cannot be written.
    """
    found = opened(study, _there(study))
    try:
        try_again(found, number, times)
    finally:
        close(found)
    resume_search(study, workers=workers)


def stop_search(study: str) -> int:
    """Ask every worker of a study on this machine to stop; return how many there were. Its trials' runs stop too.

    Raises:
        RunError: there is none of that name here.
        StoreError: the study's storage cannot be read.
    """
    leases = Leases(_there(study), study)
    try:
        here = [one for one in leases.workers().values() if one.machine == machine()]
        return sum(processes.send(one.pid, one.birth, signal.SIGTERM) for one in here)
    finally:
        leases.leave()


def last_words(study: str) -> str:
    """Return the end of what a study's processes said, as a rule nothing."""
    try:
        with _log(study).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _there(study: str) -> str | Path:
    place = place_of(study)
    if "://" not in str(place) and not Path(place).exists():
        raise RunError(Problem("study", f"there is no study called {study!r}"))
    return place


def _log(study: str) -> Path:
    return searches_folder() / f"{check_name(study)}.log"


def _spawn(study: str, *arguments: str, workers: int) -> None:
    command = module_command(
        "hybridlab.workflows.work", study, *arguments, "--workers", str(workers)
    )
    try:
        with _log(study).open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                cwd=os.sep,
                start_new_session=True,
            )
    except OSError as error:
        raise unwritable(searches_folder(), error) from None
    _children.append(child)
    _children[:] = [one for one in _children if one.poll() is None]


_children: list[subprocess.Popen[bytes]] = []
"""Kept until they have ended, so that none becomes a zombie."""
