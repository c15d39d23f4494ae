"""Answers about components that take long to find, kept in a file from one process to the next; off unless asked for.

Tracing one component takes tenths of a second; a search asks for hundreds of them and remembers each for its process.
With ``keeping`` they are also read from a file and added to it. The file's name carries a hash of the sources that the
answers follow from, so that a change to any of them begins a new one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import hybridlab
from hybridlab.runs.home import home
from hybridlab.runs.lock import locked

MAX_BYTES = 64 << 20
"""A file beyond this is left as it is: no more is added."""
_SOURCES = "architecture", "components", "trace"
_guard = threading.Lock()
_answers: dict[str, str] = {}
_file: Path | None = None


@contextmanager
def keeping(folder: Path | None = None) -> Iterator[None]:
    """Read what is kept in a folder (the home's, where none is named) and add to it, for the length of a block.

    What cannot be read is not there. Blocks may stand in each other; those of several threads share one file.
    """
    global _file
    with _guard:
        before = _file, dict(_answers)
        _file = (folder or home() / "cache") / f"components-{_sources()}.jsonl"
        if _file != before[0]:
            _answers.clear()
            _answers.update(_read(_file))
    try:
        yield
    finally:
        with _guard:
            if _file != before[0]:
                _file = before[0]
                _answers.clear()
                _answers.update(before[1])


def _read(file: Path) -> dict[str, str]:
    found = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            question, answer = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        found[str(question)] = str(answer)
    return found


def known(question: str) -> str | None:
    """Return the answer that is kept to a question, as it was given to ``add``."""
    return _answers.get(_short(question)) if _file is not None else None


def add(question: str, answer: str) -> None:
    """Keep an answer; a folder that cannot be written keeps it for this process alone."""
    if _file is None:
        return
    with _guard:
        _answers[_short(question)] = answer
        try:
            _file.parent.mkdir(parents=True, exist_ok=True)
            with locked(_file.with_suffix(".lock")), _file.open("a+b") as file:
                end = file.seek(0, 2)
                if end > MAX_BYTES:
                    return
                if end:
                    file.seek(end - 1)
                    whole = file.read(1) == b"\n"
                else:
                    whole = True
                line = json.dumps([_short(question), answer])
                file.write(("" if whole else "\n").encode() + line.encode() + b"\n")
        except OSError:
            return


def _short(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()[:32]


@functools.cache
def _sources() -> str:
    """Return a hash of everything that an answer follows from."""
    top = Path(hybridlab.__file__).parent
    found = hashlib.sha256(version("torch").encode())
    for room in _SOURCES:
        for file in sorted((top / room).rglob("*.py")):
            found.update(file.relative_to(top).as_posix().encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:16]
