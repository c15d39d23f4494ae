"""A few warm processes that answer JSON lines, shared by all sessions: coalesced, cached, timed, started again."""

from __future__ import annotations

import itertools
import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from hybridlab.errors import Problem

COMMAND = (sys.executable, "-m", "hybridlab.workflows.predict_worker")


@dataclass(frozen=True)
class Answer:
    """What a worker said: a value, or the problems that kept it from one."""

    value: Any = None
    problems: tuple[Problem, ...] = ()
    failed: bool = False
    """Whether the process failed, so that the same question may have another answer later."""

    @property
    def sentence(self) -> str:
        """The problems as text for people; empty where there are none."""
        return " ".join(problem.sentence() for problem in self.problems)


@dataclass(eq=False)
class _Job:
    key: str
    verb: str
    args: Mapping[str, Any]
    beside: Mapping[str, Any]
    timeout_s: float
    owners: set[str]
    background: bool
    future: Future[Answer] = field(default_factory=Future)


class WorkerPool:
    """Answers questions in at most ``size`` processes; nobody waits longer than a question's timeout.

    The same question asked twice is worked on once. A question that its only owner has replaced by a newer one of the
    same verb is dropped while it still waits. Answers are kept, problems too, the least recently used go first; that a
    process failed is kept for ``retry_s`` only, long enough to be read, and asked again afterwards.

    Questions in the background wait until no other is open, and until none has been for ``calm_s``: the machine and the
    processes are left to whoever looks at a page.
    """

    def __init__(
        self,
        size: int = 2,
        command: Sequence[str] = COMMAND,
        keep: int = 512,
        timeout_s: float = 60.0,
        retry_s: float = 20.0,
        calm_s: float = 1.0,
    ) -> None:
        """Set the pool up; a process starts when there is a first question for it."""
        self._command, self._keep, self._timeout_s = tuple(command), keep, timeout_s
        self._size, self._retry_s, self._calm_s = size, retry_s, calm_s
        self._busy_s = -math.inf
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._open: dict[str, _Job] = {}
        self._kept: OrderedDict[str, tuple[Answer, float]] = OrderedDict()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def ask(
        self,
        verb: str,
        args: Mapping[str, Any],
        *,
        beside: Mapping[str, Any] | None = None,
        owner: str = "",
        wait_s: float = 0.0,
    ) -> Answer | None:
        """Return the answer if it comes within ``wait_s``, else None; asking again later finds it."""
        future = self.submit(verb, args, beside=beside, owner=owner)
        try:
            return future.result(timeout=wait_s)
        except TimeoutError:
            return None

    def submit(
        self,
        verb: str,
        args: Mapping[str, Any],
        *,
        beside: Mapping[str, Any] | None = None,
        owner: str = "",
        timeout_s: float | None = None,
        background: bool = False,
    ) -> Future[Answer]:
        """Queue a question and return its future; known and open questions are not asked again.

        ``beside`` goes along to save the process work; what follows from ``args`` makes no other question. One in the
        ``background`` is there for nobody who waits; it comes forward when it is asked otherwise too.
        """
        key = json.dumps([verb, args], sort_keys=True)
        with self._changed:
            if (kept := self._known(key)) is not None:
                return _done(kept)
            if self._closed:
                return _done(Answer(problems=(Problem("", "the prediction processes have ended"),)))
            job = self._open.get(key)
            if job is None:
                self._drop_older(verb, owner)
                limit_s = timeout_s or self._timeout_s
                job = _Job(key, verb, dict(args), beside or {}, limit_s, {owner}, background)
                self._open[key] = job
                self._waiting.append(job)
                wanted = 1 if background else self._size
                if len(self._waiting) > self._idle and len(self._threads) < wanted:
                    thread = threading.Thread(target=self._work, daemon=True, name="predictions")
                    self._threads.append(thread)
                    thread.start()
            job.owners.add(owner)
            if not background:
                job.background, self._busy_s = False, time.monotonic()
            self._changed.notify()
            return job.future

    def close(self) -> None:
        """End the processes; questions still open are answered with a sentence."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def _drop_older(self, verb: str, owner: str) -> None:
        if not owner:
            return
        for job in [job for job in self._waiting if job.verb == verb and owner in job.owners]:
            job.owners.discard(owner)
            if not job.owners:
                self._waiting.remove(job)
                del self._open[job.key]
                job.future.set_result(
                    Answer(problems=(Problem("", "replaced by a newer question"),))
                )

    def _known(self, key: str) -> Answer | None:
        """Return the kept answer, unless it is a failure that has been kept for long enough."""
        answer, until = self._kept.get(key, (None, 0.0))
        if answer is None or time.monotonic() >= until:
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return answer

    def _next(self) -> _Job | None:
        """Take the question to work on now; None where there is none, or where it is not yet its time."""
        job = next((job for job in self._waiting if not job.background), None)
        if job is None and self._waiting and self._calm_in_s() == 0.0:
            job = self._waiting[0]
        if job is not None:
            self._waiting.remove(job)
        return job

    def _calm_in_s(self) -> float | None:
        """Return how long questions in the background still wait; None where that is not for the clock to say."""
        if not self._waiting or not all(job.background for job in self._open.values()):
            return None  # whoever answers the last of the others looks again
        return max(0.0, self._busy_s + self._calm_s - time.monotonic())

    def _work(self) -> None:
        worker = _Process(self._command)
        while True:
            with self._changed:
                while (job := self._next()) is None and not self._closed:
                    self._idle += 1
                    self._changed.wait(self._calm_in_s())
                    self._idle -= 1
                if job is None or self._closed:
                    break
            answer = worker.answer(job.verb, job.args, job.timeout_s, job.beside)
            with self._changed:
                del self._open[job.key]
                if not job.background:
                    self._busy_s = time.monotonic()
                until = time.monotonic() + self._retry_s if answer.failed else math.inf
                self._kept[job.key] = (answer, until)
                while len(self._kept) > self._keep:
                    self._kept.popitem(last=False)
            job.future.set_result(answer)
        worker.stop()


class _Process:
    """One worker process; used by one thread."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._buffer = b""

    def answer(
        self,
        verb: str,
        args: Mapping[str, Any],
        timeout_s: float,
        beside: Mapping[str, Any] | None = None,
    ) -> Answer:
        number = next(self._numbers)
        question = {"id": number, "verb": verb, "args": args, **(beside or {})}
        line = json.dumps(question).encode() + b"\n"
        for _ in range(2):
            if not self._send(line):
                continue
            try:
                reply = self._read(time.monotonic() + timeout_s)
            except TimeoutError:
                self.stop()
                limit = f"this took longer than {timeout_s:g} s to predict and was stopped"
                return _failure(limit, "try a smaller batch or fewer nodes")
            if reply is None:
                code = self.stop()
                ended = f"the prediction process ended unexpectedly (exit code {code})"
                return _failure(ended, "it starts again by itself; try again")
            problems = tuple(Problem(**problem) for problem in reply.get("problems", ()))
            return Answer(reply.get("value"), problems)
        return _failure("the prediction process could not be started")

    def stop(self) -> int | None:
        process, self._process, self._buffer = self._process, None, b""
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()

    def _send(self, line: bytes) -> bool:
        """Write a line, starting the process where it is not there; False where it died in between."""
        try:
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                )
            assert self._process.stdin is not None
            self._process.stdin.write(line)
        except OSError:
            self.stop()
            return False
        return True

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """Return the next line's object, or None where the process ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply


def _failure(said: str, fix: str = "") -> Answer:
    return Answer(problems=(Problem("", said, fix=fix),), failed=True)


def _done(answer: Answer) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result(answer)
    return future
