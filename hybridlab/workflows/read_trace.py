"""Reads one trace in a process of its own: ``python -m hybridlab.workflows.read_trace FOLDER``.

The folder holds ``source.json``, which names the file, and gets ``summary.json`` and ``report/``; or it holds
``request.json``, which names traces that were read, to compare or to put beside each other as ranks, and gets
``result.json`` and ``report/``. What is refused ends in ``error.json``.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from hybridlab.errors import HybridLabError, Problem, RunError, TraceError
from hybridlab.profiling.reading.limits import Limits
from hybridlab.runs.lock import locked
from hybridlab.runs.trace_reading import ERROR, PROGRESS, REQUEST, RESULT
from hybridlab.runs.traces import REPORT, SOURCE, SUMMARY, Source, trace_folder
from hybridlab.writing import write_whole

if TYPE_CHECKING:
    import pandas as pd

    from hybridlab.profiling.summary import TraceSummary

_LARGE_BYTES = 16 * 1024**2
"""Files from this size on are read one after the other."""
_LEAST_BYTES = 2 * 1024**3
_SHARE = 0.75
"""Of the memory that is free, the part that a reading may take."""


def main(arguments: Sequence[str]) -> int:
    """Read what the folder that is the one argument names, and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m hybridlab.workflows.read_trace FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        with bounded():
            if (folder / REQUEST).exists():
                together(folder)
            else:
                read(folder)
    except HybridLabError as error:
        problems = [problem.as_dict() for problem in error.problems]
        _write(folder / ERROR, {"errors": problems})
        return 2
    return 0


@contextlib.contextmanager
def bounded(limits: Limits | None = None) -> Iterator[None]:
    """Keep this process's memory below what the machine can spare; more ends in a sentence.

    Raises:
        TraceError: what runs in it needs more.
    """
    limits = limits or Limits()
    spare = int(psutil.virtual_memory().available * _SHARE)
    most = min(limits.address_bytes, max(_LEAST_BYTES, spare))
    with contextlib.suppress(ValueError, OSError):  # a lower limit may be set already
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    except MemoryError:
        raise TraceError(
            Problem(
                "the trace",
                f"needs more than the {most / 1024**3:.1f} GiB of memory that this machine can spare",
                fix="record fewer steps, or read it on a larger machine",
            )
        ) from None


def read(folder: Path) -> None:
    """Read the trace that a folder names, and write what it says beside it.

    Raises:
        TraceError: the file is refused.
    """
    source = Source(**json.loads((folder / SOURCE).read_text(encoding="utf-8")))
    file = folder / Path(source.file).name if source.how == "upload" else Path(source.file)
    if source.size_bytes < _LARGE_BYTES:
        _read_file(folder, source, file)
        return
    _tell(folder, "waiting for another trace to be read")
    with locked(folder.parent / "reading.lock"):
        _read_file(folder, source, file)


def _read_file(folder: Path, source: Source, file: Path) -> None:
    from hybridlab.profiling.analysis.groundwork import groundwork
    from hybridlab.profiling.reading.reader import read_trace
    from hybridlab.profiling.summary import summarise
    from hybridlab.profiling.trace_report import save, tables

    _tell(folder, "reading the file")
    try:
        trace = read_trace(file)
    except TraceError as error:
        raise _named(error, file, source.name) from None
    _tell(folder, f"summarising {len(trace.events):,} events")
    ground = groundwork(trace)
    summary = summarise(trace, ground)
    _tell(folder, "writing tables")
    save(tables(ground, summary), folder / REPORT)
    _write(folder / SUMMARY, summary.as_dict() | {"name": source.name, "path": source.name})


def together(folder: Path) -> None:
    """Work out what a request asks of traces that were read before, and write it beside the request.

    Raises:
        RunError: one of them was not read.
        TraceError: they do not go together.
    """
    import pandas as pd

    from hybridlab.profiling.comparison import compare
    from hybridlab.profiling.ranks import across_ranks
    from hybridlab.profiling.trace_report import save

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    summaries = [_summary(trace_id) for trace_id in request["traces"]]
    _tell(folder, "comparing")
    if request["verb"] == "compare":
        compared = compare(*summaries)
        result = compared.as_dict()
        names: tuple[str, ...] = ("operators", "kernels", "components")
    else:
        found = across_ranks(summaries)
        result, names = found.as_dict(), ("rows",)
    made: dict[str, pd.DataFrame] = {name: pd.DataFrame(result.pop(name)) for name in names}
    save({name: table for name, table in made.items() if len(table)}, folder / REPORT)
    _write(folder / RESULT, result)


def _summary(trace_id: str) -> TraceSummary:
    from hybridlab.profiling.saved_summary import restored

    file = trace_folder(trace_id) / SUMMARY
    try:
        return restored(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            Problem(f"trace {trace_id}", "was not read yet, or not to its end", fix="open it first")
        ) from None


def _named(error: TraceError, file: Path, name: str) -> TraceError:
    """Let an error name the trace as its owner knows it, and not the file in which it was kept."""
    return TraceError(
        Problem(
            name if problem.path == str(file) else problem.path,
            problem.message,
            problem.expected,
            problem.got,
            problem.fix,
        )
        for problem in error.problems
    )


def _tell(folder: Path, stage: str) -> None:
    _write(folder / PROGRESS, {"stage": stage})


def _write(file: Path, content: dict[str, Any]) -> None:
    write_whole(file, json.dumps(content))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
