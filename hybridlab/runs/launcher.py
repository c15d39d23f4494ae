"""What pages, the command line and notebooks do with runs: submit, wait, cancel, resume, delete."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridlab.errors import Problem, RunError
from hybridlab.runs.bell import ring
from hybridlab.runs.database import StoreFullError
from hybridlab.runs.home import home, home_id, prepare_home, run_folder, unwritable
from hybridlab.runs.lock import is_locked
from hybridlab.runs.metrics import Columns
from hybridlab.runs.pool import child_environment, module_command, spare_count
from hybridlab.runs.record import Run, check_id, new_id
from hybridlab.runs.reserve import spend_reserve
from hybridlab.runs.slots import capacity
from hybridlab.runs.store import Store, open_store
from hybridlab.runs.supervisor import LOCK_NAME, SUPERVISOR_LOG_NAME

_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.15
_LONGEST_LOG_BYTES = 1 << 20
_MOST_FAILURES = 3

_guard = threading.Lock()
_looked: dict[Path, float] = {}
_spawned: dict[Path, subprocess.Popen[bytes]] = {}
_failures: dict[Path, int] = {}


def submit(
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    threads: int | None = None,
    owner: str = "",
    *,
    device: str = "auto",
    parent: str | None = None,
) -> Run:
    """Queue a run and return it; a supervisor starts it as soon as cores are free.

    ``threads`` are the cores it holds, kept for every resume since results depend on them; by default this machine's
    cores divided by its slots.

    Raises:
        RunError: the settings are not plain JSON, or ``threads`` is not positive.
        StoreError: the home folder or the store cannot be written.
    """
    given = capacity()
    if threads is not None and threads < 1:
        raise RunError(Problem("threads", "not a number of threads", "1 or more", str(threads)))
    identity = home_id()
    run_id = new_id()
    folder = run_folder(run_id)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(home(), error) from None
    try:
        run = open_store().create(
            kind,
            name,
            spec,
            threads=threads or given.share,
            owner=owner,
            device=device,
            parent=parent,
            home=identity,
            run_id=run_id,
        )
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    _call()
    return run


def resume(run_id: str) -> Run:
    """Put a run that was interrupted, cancelled or failed back into the queue, with the same threads; return it.

    Raises:
        RunError: there is no such run, it is active or done, or its folder is in another home.
    """
    run = open_store().get(check_id(run_id))
    if run.home != home_id():
        raise RunError(
            Problem(
                f"run {run_id}",
                "this run belongs to another HybridLab folder",
                fix="resume it on the machine and in the folder it was started from",
            )
        )
    run = open_store().resume(run_id)
    _call()
    return run


def cancel(run_id: str) -> Run:
    """Cancel a queued run at once, ask a running one to stop at its next step; return the run.

    Raises:
        RunError: there is no such run.
    """
    run = open_store().request_cancel(check_id(run_id))
    _call()
    return run


def delete(run_id: str) -> None:
    """Delete a run, its metrics and its folder.

    Raises:
        RunError: there is no such run, or it is running.
        StoreError: the store or the folder cannot be written.
    """
    folder = run_folder(run_id)
    bin_folder = home() / "trash" / new_id()

    def move_away() -> None:
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            bin_folder.parent.mkdir(exist_ok=True)
            folder.rename(bin_folder)

    try:
        try:
            open_store().delete(run_id, beside=move_away)
        except StoreFullError:
            if not spend_reserve(home()):
                raise
            open_store().delete(run_id, beside=move_away)
    except OSError as error:
        raise unwritable(folder, error) from None
    except BaseException:
        if bin_folder.exists():
            bin_folder.rename(folder)
        raise
    shutil.rmtree(home() / "trash", ignore_errors=True)


def wait(
    run_id: str,
    on_update: Callable[[Run, Columns], None] | None = None,
    *,
    timeout: float | None = None,
) -> Run:
    """Wait until a run has ended and return it; ``on_update`` gets the run and its new metrics when something moved.

    Raises:
        RunError: there is no such run (any more), or ``timeout`` seconds are over.
        StoreError: the store cannot be read.
    """
    store = open_store()
    deadline = None if timeout is None else time.monotonic() + timeout
    after, known = 0, None
    while True:
        ensure_supervisor()
        run = store.get(run_id)
        columns = store.metrics(run_id, after)
        if on_update is not None and (columns.seq or run != known):
            on_update(run, columns)
        after, known = columns.last, run
        if not run.state.active:
            return run
        if deadline is not None and time.monotonic() > deadline:
            raise RunError(
                Problem(f"run {run_id}", f"still {run.state.lower()} after {timeout:g} s")
            )
        time.sleep(_POLL_SECONDS)


def ensure_supervisor(*, warm: bool = False) -> bool:
    """Start this home's supervisor if there is none and there is work for it; say whether one is there or coming.

    Every reader of active runs calls this, so that a supervisor that was killed is replaced and what died with it is
    told within seconds. It looks at most once a second. With ``warm``, one is started even without work, with two
    workers that import torch beforehand, so that the first runs begin at once (``HYBRIDLAB_SPARES``: another number).

    Raises:
        RunError: the supervisor ended several times right after its start; the message has its last words.
        StoreError: the home folder or the store cannot be written.
    """
    place = home()
    with _guard:
        now = time.monotonic()
        if not warm and now - _looked.get(place, -_LOOK_SECONDS) < _LOOK_SECONDS:
            return True
        _looked[place] = now
    return _ensure(open_store(), place, warm=warm)


def _call() -> None:
    """Wake the supervisor, starting one if there is none."""
    place = home()
    ring(place)
    with _guard:
        _looked[place] = time.monotonic()
        failing = _failures.get(place, 0) >= _MOST_FAILURES
    if not failing:  # else the next reader is told
        _ensure(open_store(), place, warm=False)


def _ensure(store: Store, place: Path, *, warm: bool) -> bool:
    if is_locked(place / LOCK_NAME):
        _failures.pop(place, None)
        return True
    with _guard:
        child = _spawned.get(place)
        if child is not None:
            code = child.poll()
            if code is None:
                return True
            del _spawned[place]
            if code > 0:
                _failures[place] = _failures.get(place, 0) + 1
        if not (warm or store.active(home_id())):
            return False
        if _failures.get(place, 0) >= _MOST_FAILURES:
            _failures.pop(place)
            raise RunError(
                Problem(
                    str(place / SUPERVISOR_LOG_NAME),
                    "the process that starts runs cannot start",
                    got=_last_words(place / SUPERVISOR_LOG_NAME),
                )
            )
        _spawned[place] = _spawn(prepare_home(), spare_count(default=2 if warm else 1))
        return True


def _spawn(place: Path, spares: int) -> subprocess.Popen[bytes]:
    log = place / SUPERVISOR_LOG_NAME
    try:
        if log.exists() and log.stat().st_size > _LONGEST_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as output:
            return subprocess.Popen(
                module_command("hybridlab.runs.supervisor", "--spares", str(spares)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=os.sep,
                env=child_environment(),
            )
    except OSError as error:
        raise unwritable(place, error) from None


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
