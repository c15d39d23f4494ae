"""The command line: ``hybridlab VERB``; one file a group of verbs, everything heavy imported when a verb runs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from hybridlab.cli import (
    buckets,
    caches,
    data,
    designs,
    fusion,
    machine,
    models,
    plan,
    precision,
    profile,
    rates,
    runs,
    search,
    traces,
    training,
    tune,
)
from hybridlab.cli.output import give, say, say_errors
from hybridlab.errors import HybridLabError, Problem, StoreError

_WRONG_COMMAND_LINE = typer.BadParameter.__bases__[0]
_OK, _FAILED, _BAD_INPUT, _STOPPED = 0, 1, 2, 130


class _InterruptedError(Exception):
    """Ctrl-C came while a verb ran; typer would end that without a word."""


class _Verbs(TyperGroup):
    """Lets an interrupt through to ``run``."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that the command line names."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    name="hybridlab",
    cls=_Verbs,
    help="Design, predict, train, measure, optimise and search hybrid neural architectures.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (
    machine,
    designs,
    models,
    training,
    rates,
    profile,
    plan,
    fusion,
    tune,
    precision,
    caches,
    buckets,
    search,
):
    for name, verb in group.VERBS.items():
        app.command(name)(verb)
app.add_typer(models.import_app, name="import")
app.add_typer(models.export_app, name="export")
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
app.add_typer(traces.app, name="trace")


def main() -> None:
    """Run the command line of this process and exit with its code."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (as `| head` does): leave quietly, and keep Python from flushing once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is told in sentences."""
    as_json = "--json" in arguments
    try:
        result = app(list(arguments) or ["--help"], prog_name="hybridlab", standalone_mode=False)
        return result if isinstance(result, int) else _OK
    except typer.Exit as exit_:
        return exit_.exit_code
    except HybridLabError as error:
        say_errors(error.problems, as_json)
        return (
            _FAILED
            if isinstance(error, StoreError) or type(error) is HybridLabError
            else _BAD_INPUT
        )
    except (_InterruptedError, KeyboardInterrupt, typer.Abort):
        say("stopped")
        if as_json:
            give({"errors": [Problem("", "stopped").as_dict()]})
        return _STOPPED
    except BrokenPipeError:
        return _OK
    except Exception as error:
        if isinstance(error, _WRONG_COMMAND_LINE):
            return _wrong_command_line(error, as_json)
        say_errors([_of_the_machine(error) or _unexpected(error)], as_json)
        return _FAILED


def _wrong_command_line(error: Exception, as_json: bool) -> int:
    message = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "hybridlab"
    text = message[:1].lower() + message[1:].rstrip(".")
    say_errors(
        [Problem("command line", text, fix=f"`{where} --help` lists what there is")], as_json
    )
    return _BAD_INPUT


def _of_the_machine(error: Exception) -> Problem | None:
    """Return the sentence where memory or the disk has no more room, which is no defect; else None."""
    from hybridlab.runs.verdict import is_disk_full, is_out_of_memory

    if is_out_of_memory(error):
        return Problem("", "there is not enough memory for this")
    if is_disk_full(error):
        where = str(getattr(error, "filename", None) or "")
        return Problem(where, "the disk is full", fix="free some space and do it again")
    return None


def _unexpected(error: Exception) -> Problem:
    """Return a sentence for a defect of ours, and keep what is needed to mend it."""
    from hybridlab.runs.home import home

    reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    log = home() / "last_error.txt"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return Problem("", f"this is a defect in HybridLab: {reason}")
    return Problem(
        "", f"this is a defect in HybridLab: {reason}", fix=f"please report it with {log}"
    )
