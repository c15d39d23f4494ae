"""How verbs answer: progress to stderr, one line of JSON or a small table to stdout, errors as sentences."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hybridlab.errors import Problem, SpecError
from hybridlab.writing import write_whole

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON value as the last line of stdout.")
]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="A YAML file, a preset, or a saved design.")
]


_PLAIN_WIDTH = 160
"""Characters of a line where stdout is a file or a pipe."""


def say(text: str) -> None:
    """Tell progress or a remark on stderr."""
    print(text, file=sys.stderr, flush=True)


def give(result: Any) -> None:
    """Print a result as one line of JSON; NaN and infinity become null."""
    from hybridlab.runs.record import json_ready

    print(json.dumps(json_ready(result), allow_nan=False), flush=True)


def say_errors(problems: Iterable[Problem], as_json: bool) -> None:
    """Tell what is wrong: as sentences on stderr, and as JSON on stdout where that was asked for."""
    problems = list(problems)
    for problem in problems:
        say(f"{problem.severity}: {problem.sentence()}")
    if as_json:
        give({"errors": [problem.as_dict() for problem in problems]})


def make_room(path: Path | None) -> None:
    """Make the folder of a file to be written, before the work that it is for; None asks for no file.

    Raises:
        SpecError: the file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device or a pipe is written as it is.

    Raises:
        SpecError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path, text)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> SpecError:
    """Return the error that says why a file cannot be written."""
    reason = (error.strerror or str(error)).lower()
    return SpecError(Problem(str(path), f"cannot be written: {reason}"))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> None:
    """Print a table; the columns named in ``numbers`` are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title, style="bold") if title else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for column in columns:
        made.add_column(
            Text(column), justify="right" if column in numbers else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    console.print(made)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print pairs of a name and a value, one a line, values aligned."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {value}")
