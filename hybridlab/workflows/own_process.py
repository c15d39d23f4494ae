"""Asks a process of its own to measure something, and answers in it: whoever asks may end it at any moment.

One JSON object goes in; lines of JSON come out: any number with ``said``, which tell how far it is, then one with
``found`` or with ``problems``. When its standard input ends the process does: a compiler that takes minutes dies with
whoever asked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from hybridlab.errors import HybridLabError, Problem, RunError

_LOOK_S = 0.2
_STEADY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""glibc keeps its memory: given back and taken anew in a step, one and the same step took 20 or 29 ms by chance."""


class NoAnswerError(RunError):
    """A process ended without an answer, or took too long and was stopped."""


def ask(
    module: str,
    asked: Mapping[str, Any],
    on_look: Callable[[], object] = lambda: None,
    *,
    limit_s: float,
    on_said: Callable[[Mapping[str, Any]], object] = lambda said: None,
) -> dict[str, Any]:
    """Let a module's process measure what is asked, and return what it found.

    Args:
        module: has ``answer`` called where it is run.
        asked: what ``answer``'s function is given; ``threads`` are those that it computes with.
        on_look: called a few times a second; what it raises ends the process at once.
        limit_s: the process may be silent for so long.
        on_said: hears what it says meanwhile.

    Raises:
        NoAnswerError: it took too long, or ended without a word.
        RunError: it says what is wrong.
    """
    threads = str(asked.get("threads", 1))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as heard:
        process = subprocess.Popen(
            (sys.executable, "-m", module),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=heard,
            env=_STEADY | os.environ | environment | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            start_new_session=True,
        )
        assert process.stdin is not None
        lines = _Lines(said)
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                process.stdin.flush()
            _watched(process, lines, on_look, on_said, limit_s)
        finally:
            _ended(process)
        last = lines.last or {}
        if process.returncode or not last.keys() & {"found", "problems"}:
            heard.seek(0)
            raise NoAnswerError(_died(process.returncode, heard.read().decode(errors="replace")))
    if problems := last.get("problems"):
        raise RunError([Problem(**one) for one in problems])
    return dict(last["found"])


def answer(
    measure: Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], Mapping[str, Any]],
) -> None:
    """Answer the question on stdin, as ``ask`` put it; what libraries print goes to stderr.

    ``measure`` is given the question and what tells how far it is.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    line = sys.stdin.readline()
    threading.Thread(target=_ends_with_stdin, daemon=True).start()

    def tell(what: str, content: Any) -> None:
        answers.write(json.dumps({what: content}) + "\n")
        answers.flush()

    with contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        asked = json.loads(line)
        torch.set_num_threads(int(asked.get("threads", 1)))
        try:
            found = dict(measure(asked, lambda said: tell("said", dict(said))))
        except HybridLabError as error:
            tell("problems", [problem.as_dict() for problem in error.problems])
        else:
            tell("found", found)
    os._exit(0)


def _ends_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


class _Lines:
    """What a process has written, line by line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._at = file, 0
        self.last: dict[str, Any] | None = None

    def new(self) -> list[Mapping[str, Any]]:
        """Return what was said since; the last line of all is the answer."""
        written = os.pread(self._file.fileno(), 1 << 24, self._at)
        whole = written[: written.rfind(b"\n") + 1]
        self._at += len(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines:
            self.last = lines[-1]
        return [one["said"] for one in lines if "said" in one]


def _watched(
    process: subprocess.Popen[bytes],
    lines: _Lines,
    on_look: Callable[[], object],
    on_said: Callable[[Mapping[str, Any]], object],
    limit_s: float,
) -> None:
    """Wait for a process to end, and hand on what it says.

    Raises:
        NoAnswerError: it was silent for too long.
    """
    until = time.monotonic() + limit_s
    while True:
        on_look()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
        for said in lines.new():
            until = time.monotonic() + limit_s
            on_said(said)
        if process.returncode is not None:
            return
        if time.monotonic() > until:
            took = f"{limit_s / 60:.0f} minutes" if limit_s >= 60 else f"{limit_s:.0f} seconds"
            raise NoAnswerError(Problem("compile", f"did not end within {took} and was stopped"))


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End a process and the compilers that it started."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _died(code: int | None, heard: str) -> Problem:
    lines = [line.strip() for line in heard.splitlines() if line.strip()]
    last = lines[-1][:200] if lines else "it said nothing"
    return Problem("compile", f"the process that measures ended with exit code {code}: {last}")
