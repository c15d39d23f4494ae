"""The process that reads a trace: what it writes, what it refuses and how soon, and what becomes of one that ends."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hybridlab.profiling.comparison import compare
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.summary import summarise
from hybridlab.runs import trace_reading, traces
from hybridlab.runs.lock import locked
from hybridlab.runs.trace_reading import ReadingState
from tests.profiling.test_bad_traces import packed
from tests.profiling.traces import training, written


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def read(source: traces.Source) -> trace_reading.Reading:
    trace_reading.start(source.folder)
    return trace_reading.wait(source.folder)


def test_what_is_written_is_what_the_reader_says(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json.gz", training())
    source = traces.add_upload("mine.json.gz", [file.read_bytes()])
    assert trace_reading.look(source.folder).state is ReadingState.NEW
    assert read(source).state is ReadingState.READ
    expected = summarise(read_trace(file))
    said = json.loads((source.folder / "summary.json").read_text())
    figures = json.loads(json.dumps(expected.as_dict()))
    assert said | {"path": ""} == figures | {"path": "", "name": "mine.json.gz"}
    kernels = pd.read_parquet(source.folder / "report" / "kernels.parquet")
    assert kernels["name"].tolist() == [kernel.name for kernel in expected.kernels]

    folder = trace_reading.beside("compare", [source.id, source.id])
    trace_reading.start(folder)
    assert trace_reading.wait(folder).state is ReadingState.READ
    assert trace_reading.beside("compare", [source.id, source.id]) == folder
    rows = pd.read_parquet(folder / "report" / "operators.parquet")
    assert len(rows) == len(compare(expected, expected).operators)
    assert json.loads((folder / "result.json").read_text())["step_us"] == [900.0, 900.0]

    lost = trace_reading.beside("ranks", [traces.add_upload("x.json", [b"{}"]).id])
    trace_reading.start(lost)
    refused = trace_reading.wait(lost)
    assert (
        refused.state is ReadingState.FAILED and "was not read yet" in refused.problems[0].message
    )


def test_a_bomb_is_refused_within_two_seconds_under_the_name_its_owner_knows(
    tmp_path: Path,
) -> None:
    bomb = packed("events", tmp_path / "b.json.gz")
    source = traces.add_upload("bomb.json.gz", [bomb.read_bytes()])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = read(source)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert found.state is ReadingState.FAILED
    (problem,) = found.problems
    assert problem.path == "bomb.json.gz" and "which no profiler writes" in problem.message
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert not (source.folder / "summary.json").exists()


def test_a_large_file_cut_off_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    with file.open("wb") as target:
        target.write(b'{"traceEvents": [{"ph": "X"')
        target.truncate(4 * 1024**3)  # sparse: nobody can have read this
        target.seek(0, os.SEEK_END)
        target.write(b', "name"')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(
        Exception, match=r"cut.json: the text ends in the middle, after 4294967304 b"
    ):
        read_trace(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.5


def test_a_reading_outlives_the_server_is_cancelled_or_begun_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed_text = gzip.compress(json.dumps({"traceEvents": training()}).encode())
    # Blanks before the text make a file large enough to wait for its turn.
    large = b" " * 17 * 1024**2 + json.dumps({"traceEvents": training()}).encode()
    source = traces.add_upload("large.json", [large])
    with locked(home / "traces" / "reading.lock"):
        trace_reading.start(source.folder)
        while trace_reading.look(source.folder).stage != "waiting for another trace to be read":
            assert trace_reading.look(source.folder).state is ReadingState.READING
        child = trace_reading._children.pop(str(source.folder))  # what a new server would not have
        assert trace_reading.look(source.folder).state is ReadingState.READING
        small = traces.add_upload("small.json.gz", [packed_text])
        assert read(small).state is ReadingState.READ, "small ones do not wait"
        trace_reading.cancel(source.folder)
        child.wait()
        assert trace_reading.look(source.folder).state is ReadingState.CANCELLED
        trace_reading.start(source.folder)
        os.kill(trace_reading._children[str(source.folder)].pid, signal.SIGKILL)
        ended = trace_reading.wait(source.folder)
        assert ended.state is ReadingState.INTERRUPTED
        assert "ended before it was done" in ended.problems[0].message
        trace_reading.start(source.folder)
    assert trace_reading.wait(source.folder).state is ReadingState.READ


def test_more_memory_than_there_is_ends_in_a_sentence() -> None:
    program = (
        "from hybridlab.workflows.read_trace import bounded\n"
        "import sys\n"
        "assert 'torch' not in sys.modules\n"
        "with bounded():\n    bytearray(1 << 45)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "TraceError: the trace: needs more than the" in done.stderr
