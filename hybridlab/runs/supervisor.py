"""The one process of a home that starts workers, watches them, and tells the truth about those that died.

Run as ``python -m hybridlab.runs.supervisor``; ``launcher.ensure_supervisor`` does so when there is need. It holds a
lock on a file in the home folder, so there is never a second one, and keeps nothing that cannot be read again from the
store: killed at any moment, its successor goes on where it was. Workers outlive it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from hybridlab.errors import HybridLabError
from hybridlab.runs import processes
from hybridlab.runs.allocator import allocator_environment
from hybridlab.runs.bell import Bell
from hybridlab.runs.database import StoreFullError
from hybridlab.runs.home import home, home_id, prepare_home, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.lock import Lock
from hybridlab.runs.pool import WorkerPool, assign, dismiss, module_command, spare_count
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.reserve import keep_reserve, spend_reserve
from hybridlab.runs.slots import Capacity, capacity, startable, worker_environment
from hybridlab.runs.store import Store, open_store
from hybridlab.runs.watch import Judgement, Watch, epitaph
from hybridlab.runs.worker import LOG_NAME

LOCK_NAME = "supervisor.lock"
SUPERVISOR_LOG_NAME = "supervisor.log"
IDLE_SECONDS = 300.0
_BUSY_LOOK_SECONDS = 0.25
_IDLE_LOOK_SECONDS = 1.0
_DYING_SECONDS = 1.0
_LINGER_SECONDS = 10.0
_LOCK_PATIENCE_SECONDS = 2.0


class Supervisor:
    """Starts what waits, in order, as far as the machine's cores and devices reach; watches what runs."""

    def __init__(
        self,
        store: Store,
        *,
        given: Capacity,
        command: Sequence[str],
        spares: int = 0,
    ) -> None:
        """Supervise the runs of this home; ``command`` starts a worker that waits on standard input."""
        self._store = store
        self._home_id = home_id()
        self._given = given
        self._pool = WorkerPool(command, given.share, spares, home() / SUPERVISOR_LOG_NAME)
        self._watch = Watch()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._leaving: dict[str, float] = {}
        self._known: list[Run] = []

    def tick(self, now: float) -> bool:
        """Look once at everything, at a moment of the monotonic clock in seconds; say whether there is work.

        Raises:
            StoreError: the store cannot be read or written at present.
        """
        active = self._store.active(self._home_id)
        running = [run for run in active if run.state is RunState.RUNNING]
        self._watch.look(now, running)
        still = [run for run in running if self._look_at(run)]
        self._see_off({run.lease for run in still}, now)
        queue = [run for run in active if run.state is RunState.QUEUED]
        started = [
            run
            for run, granted in startable(queue, still, self._given)
            if self._start(run, granted)
        ]
        self._known = [*still, *started]
        idle_cores = self._given.cores - sum(run.threads for run in self._known)
        if idle_cores > 0 or len(queue) > len(started):
            self._pool.top_up()
        return bool(active)

    def close(self, *, kill: bool = False) -> None:
        """Let the spares go and leave the workers alone, or kill them when their home is gone."""
        self._pool.close()
        if kill:
            for run in self._known:
                processes.send(run.pid, run.birth, signal.SIGKILL)
            # a last look may have found a store that was empty already
            for child in self._children.values():
                if born := processes.birth(child.pid):
                    processes.send(child.pid, born, signal.SIGKILL)

    def _look_at(self, run: Run) -> bool:
        """Judge a running run's worker and act on it; say whether the run goes on."""
        child = self._children.get(run.lease)
        if not processes.is_alive(run.pid, run.birth):
            self._bury(run, None if child is None else _exit_code(child))
            return False
        judgement = self._watch.judge(run)
        if judgement is Judgement.TERMINATE:
            processes.send(run.pid, run.birth, signal.SIGTERM)
        if judgement is Judgement.KILL and self._end(run, RunState.CANCELLED, ""):
            processes.send(run.pid, run.birth, signal.SIGKILL)
            return False
        if judgement is Judgement.SILENT:
            sentence = (
                f"The worker process stopped answering after step {run.step} and was ended; "
                "resume the run to go on from its last checkpoint."
            )
            if self._end(run, RunState.INTERRUPTED, sentence):
                processes.send(run.pid, run.birth, signal.SIGKILL)
                return False
        return True

    def _bury(self, run: Run, exit_code: int | None) -> None:
        never_began = run.heartbeat == 0 and exit_code in (None, 0)
        lease = Lease(run.id, run.lease)
        if never_began and not run.cancel_requested and self._store.leases.unclaim(lease):
            _say(f"{run.id}: its worker never began, back into the queue")
            return
        state, sentence = epitaph(run, exit_code)
        if self._store.leases.finish(lease, state, error=sentence):
            _say(f"{run.id}: {state} {sentence}")

    def _end(self, run: Run, state: RunState, sentence: str) -> bool:
        ended = self._store.leases.finish(
            Lease(run.id, run.lease), state, error=sentence, heartbeat=run.heartbeat
        )
        if ended:
            _say(f"{run.id}: {state} {sentence}")
        return ended

    def _see_off(self, leases: set[str], now: float) -> None:
        """Collect workers whose runs have ended; one that lingers is killed."""
        for lease, child in list(self._children.items()):
            if lease in leases:
                continue
            if child.poll() is not None:
                del self._children[lease]
                self._leaving.pop(lease, None)
            elif now - self._leaving.setdefault(lease, now) > _LINGER_SECONDS:
                child.kill()

    def _start(self, run: Run, granted: str) -> bool:
        folder = run_folder(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        born_with = allocator_environment(run.spec)
        child = self._pool.take(run.threads, folder / LOG_NAME, born_with)
        token = secrets.token_hex(8)
        born = processes.birth(child.pid) or "unknown"
        claimed = self._store.leases.claim(
            run.id, token, pid=child.pid, birth=born, granted=granted
        )
        self._children[token] = child
        if claimed is None:
            dismiss(child)
            return False
        assign(child, run.id, token, worker_environment(run.threads, run.device, granted))
        _say(f"{run.id}: started as process {child.pid} on {granted}, {run.threads} threads")
        return True


def supervise(
    lock: Lock, given: Capacity, command: Sequence[str], *, spares: int, idle_seconds: float
) -> None:
    """Supervise until there has been nothing to do for a while, or the home folder is gone."""
    lock.note(json.dumps({"pid": os.getpid(), "slots": given.slots, "cores": given.cores}))
    bell = Bell(home())
    store = open_store()
    supervisor = Supervisor(store, given=given, command=command, spares=spares)
    idle_since = time.monotonic()
    try:
        while lock.still_there():
            try:
                keep_reserve(home())
                busy = supervisor.tick(time.monotonic())
            except (HybridLabError, OSError) as error:
                if isinstance(error, StoreFullError) and spend_reserve(home()):
                    continue
                _say(f"trying again: {error}")
                bell.wait(_IDLE_LOOK_SECONDS)
                busy = False
            now = time.monotonic()
            idle_since = now if busy else idle_since
            if now - idle_since > idle_seconds:
                return
            bell.wait(_BUSY_LOOK_SECONDS if busy else _IDLE_LOOK_SECONDS)
    finally:
        supervisor.close(kill=not lock.still_there())
        bell.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the supervisor of this home, unless there is one; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hybridlab.runs.supervisor")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    parser.add_argument("--spares", type=int, default=None, help="workers to keep warm")
    parser.add_argument("--slots", type=int, default=None, help="runs at once")
    parser.add_argument("--cores", type=int, default=None, help="cores to share out")
    parser.add_argument("--worker", type=shlex.split, default=None, help="a worker's command")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    measured = capacity()
    given = Capacity(
        options.cores or measured.cores, options.slots or measured.slots, measured.devices
    )
    command = options.worker or module_command("hybridlab.workflows", "--wait")
    spares = options.spares if options.spares is not None else spare_count(default=1)
    lock = Lock(prepare_home() / LOCK_NAME)
    while _lock_patiently(lock):
        supervise(lock, given, command, spares=spares, idle_seconds=options.idle_seconds)
        gone = not lock.still_there()
        lock.release()
        # A run may have been queued by someone who still saw the lock held: look once more before going.
        if gone or not open_store().active(home_id()):
            return 0
    return 0


def _lock_patiently(lock: Lock) -> bool:
    """Take the lock; those who only ask whether it is held hold it for a blink, so try for a while."""
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while not lock.acquire():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _exit_code(child: subprocess.Popen[bytes]) -> int | None:
    """Return how a child ended that is dying; it has no exit code until the last of its threads is gone."""
    try:
        return child.wait(timeout=_DYING_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not end the supervisor
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
