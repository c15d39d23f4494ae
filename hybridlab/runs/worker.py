"""The harness of a worker process: it runs one workflow for one run and writes how that ended."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from hybridlab.errors import Problem, RunError, StoreError
from hybridlab.runs.allocator import allocator_environment
from hybridlab.runs.context import EXIT_LEASE_LOST, RunContext, Stopped
from hybridlab.runs.database import StoreFullError
from hybridlab.runs.home import home, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.processes import birth
from hybridlab.runs.record import Run, RunState, json_ready
from hybridlab.runs.reserve import spend_reserve
from hybridlab.runs.slots import worker_environment
from hybridlab.runs.store import Store, open_store
from hybridlab.runs.verdict import EXIT_DISK_FULL, is_disk_full, verdict
from hybridlab.writing import write_whole

Verb = Callable[[RunContext], Mapping[str, Any] | None]
Verbs = Mapping[str, "Verb | str"]

EXIT_FAILED, EXIT_INTERRUPTED = 1, 128 + signal.SIGTERM
FINISH_SECONDS = 6.0
LOG_NAME = "log.txt"

__all__ = ["RunContext", "Stopped", "Verb", "load", "serve", "work"]


def serve(verbs: Verbs, source: TextIO) -> int:
    """Wait for one line that assigns a run, work on it, and return the process's exit code.

    The line is JSON: ``run``, ``token`` and ``environment``. No line means that the supervisor has gone: the process
    then ends without having touched anything.
    """
    line = source.readline()
    if not line.strip():
        return 0
    assignment = json.loads(line)
    os.environ.update(assignment["environment"])
    return work(assignment["run"], verbs, token=assignment["token"])


def work(run_id: str, verbs: Verbs, *, token: str | None = None) -> int:
    """Run the workflow of a run's kind in this process and return the process's exit code.

    ``verbs`` maps kinds to functions, or to ``"module:function"`` texts that are imported only now. Without a
    ``token`` the run must be queued, and this process takes it for itself.

    Raises:
        RunError: there is no such run, or it is not queued.
        StoreError: the store cannot be read or written.
    """
    store = open_store()
    folder = run_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    run = _take(store, run_id) if token is None else store.get(run_id)
    if token is not None and (run.lease != token or run.state is not RunState.RUNNING):
        return EXIT_LEASE_LOST
    _redirect_output(folder / LOG_NAME)
    _say(f"--- attempt {run.attempt}, process {os.getpid()}, {run.threads} threads")
    return _attempt(store, run, folder, verbs)


def load(verb: Verb | str) -> Verb:
    """Return a workflow, importing it if it is named by text."""
    if not isinstance(verb, str):
        return verb
    module, _, name = verb.partition(":")
    found: Verb = getattr(importlib.import_module(module), name)
    return found


def _take(store: Store, run_id: str) -> Run:
    pid = os.getpid()
    run = store.leases.claim(
        run_id, secrets.token_hex(8), pid=pid, birth=birth(pid) or "", granted="cpu"
    )
    if run is None:
        state = store.get(run_id).state
        raise RunError(
            Problem(f"run {run_id}", "only a queued run can be started", got=state.lower())
        )
    os.environ.update(worker_environment(run.threads, run.device, run.granted))
    os.environ.update(allocator_environment(run.spec))
    return run


def _attempt(store: Store, run: Run, folder: Path, verbs: Verbs) -> int:
    lease = Lease(run.id, run.lease)
    context: RunContext | None = None
    step = run.step
    try:
        verb = _verb(run, verbs)
        _limit_threads(run.threads)
        context = RunContext(store, run, folder)
        _heed_signals(context)
        context.start()
        result = json_ready(verb(context) or {})
        text = json.dumps(result, ensure_ascii=False, indent=1)
        write_whole(folder / "result.json", text)
        ending = RunState.DONE, "", result
    except BaseException as error:
        if not isinstance(error, Stopped):
            _say(traceback.format_exc())
        step = context.step if context else step
        ending = (*verdict(error, step), None)
        full = is_disk_full(error)
    else:
        full = False
    _say(f"--- {ending[0]} {ending[1]}".rstrip())
    return _end(store, lease, context, ending, full)


def _verb(run: Run, verbs: Verbs) -> Verb:
    if run.kind not in verbs:
        raise RunError(
            Problem(f"run {run.id}", "there is no such kind of run", ", ".join(verbs), run.kind)
        )
    return load(verbs[run.kind])


def _heed_signals(context: RunContext) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        context.interrupt()

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _end(
    store: Store,
    lease: Lease,
    context: RunContext | None,
    ending: tuple[RunState, str, Any],
    full: bool,
) -> int:
    state, sentence, result = ending
    deadline = time.monotonic() + FINISH_SECONDS
    while True:
        try:
            if context is not None:
                context.close()
            held = store.leases.finish(lease, state, result=result, error=sentence)
            break
        except StoreError as error:
            _say(f"The end of the run could not be written, trying again: {error}")
            full = isinstance(error, StoreFullError)
            if full and spend_reserve(home()):
                continue
            if time.monotonic() > deadline:
                return EXIT_DISK_FULL if full else EXIT_FAILED
            time.sleep(0.5)
    if not held:
        return EXIT_LEASE_LOST
    if full:
        return EXIT_DISK_FULL
    if state is RunState.INTERRUPTED:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if state is RunState.FAILED else 0


def _redirect_output(path: Path) -> None:
    """Send this process's output, and that of libraries below Python, to the end of a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", 1, encoding="utf-8", errors="replace", closefd=False)
        for number in (1, 2)
    )
    faulthandler.enable(sys.stderr)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the disk may be full: the log is not worth the run
        print(text, flush=True)
