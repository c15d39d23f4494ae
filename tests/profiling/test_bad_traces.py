"""Whatever a file holds, a person gets a sentence, soon and without the memory of the machine."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from hybridlab.errors import TraceError
from hybridlab.profiling.reading.limits import Limits
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.summary import summarise
from tests.profiling.traces import complete, training, written

GOOD = json.dumps({"traceEvents": training()}).encode()
OP = complete("cpu_op", "aten::mm", 5.0, 10.0)
FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the file is empty"),
    "blanks": (b" \n \n", "holds no text but blanks"),
    "words": (b"hello", "is not JSON"),
    "binary": (bytes(range(128, 256)) * 8, "is not JSON"),
    "zip": (b"PK\x03\x04" + b"0" * 40, "zip archive"),
    "truncated": (GOOD[: len(GOOD) // 2], "ends in the middle"),
    "cut after the events": (GOOD[:-1], "ends in the middle"),
    "cut in the first key": (b'{"schemaVersion": 1, "trace', "ends in the middle"),
    "cut gzip": (gzip.compress(GOOD)[:-40], "cut off"),
    "damaged gzip": (gzip.compress(GOOD)[:30] + b"\xff" * 300, "damaged|cut off"),
    "other JSON": (b'{"model": {"layers": [1, 2]}}', "no traceEvents.*model"),
    "a list of numbers": (b"[1, 2, 3]", "not one of trace events"),
    "a list of words": (b'[["a", 1, 2, 3]]', "not trace events"),
    "a list of objects": (b'[{"a": 1}, {"b": 2}]', "none of its 2 entries"),
    "numbers as events": (b'{"traceEvents": [1, 2, "x", null]}', "none of its 4 entries"),
    "events that are none": (b'{"traceEvents": {"a": 1}}', "are not a list"),
    "no events": (b'{"traceEvents": []}', "list of events is empty"),
    "deep": (
        b'{"traceEvents": [' + b'{"args": {"x": ' + b"[" * 100_000,
        "nested|ends in the middle",
    ),
    "deep outside": (b'{"a": ' + b'{"a":' * 50_000, "nested|ends in the middle"),
    "NaN": (b'{"traceEvents": [{"ph": "X", "ts": NaN, "dur": 1}]}', "NaN stands where JSON has"),
    "N/A": (b'{"traceEvents": [{"ph": "X", "ts": 1, "dur": N/A}]}', "N/A stands where JSON has"),
    "missing comma": (b'{"traceEvents": [{"ph": "X"} {"ph": "X"}]}', "malformed"),
    "junk behind": (b'{"traceEvents": [{"ph": "X"}]} and more', "malformed"),
    "negative only": (
        json.dumps({"traceEvents": [complete("cpu_op", "a", 5, -1)]}).encode(),
        "negative time or duration",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_gets_one_sentence(name: str, tmp_path: Path) -> None:
    text, expected = FILES[name]
    path = tmp_path / "trace.json"
    path.write_bytes(text)
    with pytest.raises(TraceError, match=f"(?s)trace.json: .*({expected})") as caught:
        read_trace(path)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.json")
    with pytest.raises(TraceError, match="folder"):
        read_trace(tmp_path)


_PROBE = """
import resource, sys, time
from hybridlab.profiling.reading.reader import read_trace
from hybridlab.profiling.summary import summarise
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
try:
    read_trace(sys.argv[1])
except Exception as error:
    print(type(error).__name__, str(error))
print(time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def packed(name: str, path: Path) -> Path:
    """Write a file of a few MB or less that unpacks to GB, without ever holding them."""
    heads = {"one string": b'{"traceEvents": [{"name": "'}
    heads |= {"header": b'{"a": "', "events": b'{"traceEvents": ['}
    fill = None if name == "events" else b"a"
    block = (fill or json.dumps(OP).encode() + b",") * (1 << 20 if fill else 8_000)
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(heads[name]))
        file.write(packer.compress(block))
        # The rest of the bomb need not be there: it is refused long before its end.
        for _ in range(95):
            file.write(packer.compress(block))
        file.write(packer.flush())
    return path


@pytest.mark.parametrize("name", ["one string", "header", "events"])
def test_a_bomb_is_refused_soon_and_small(name: str, tmp_path: Path) -> None:
    path = packed(name, tmp_path / "bomb.json.gz")
    assert path.stat().st_size < 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said, figures = done.stdout.strip().splitlines()
    seconds, more_bytes = (float(x) for x in figures.split())
    assert said.startswith("TraceError") and "bomb.json.gz" in said
    assert seconds < 2
    assert more_bytes < 256 * 1024**2


def test_more_events_than_allowed(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", [OP] * 50)
    with pytest.raises(TraceError, match="more than 40 events"):
        read_trace(path, Limits(events=40))
    assert len(read_trace(path, Limits(events=50)).events) == 50


def test_odd_events_are_left_out_and_told(tmp_path: Path) -> None:
    events = [
        OP,
        complete("cpu_op", "back", 50, -3),
        complete("martian_op", "x", 60, 1),
        complete("martian_op", "y", 62, 1),
        complete("cpu_op", "late", 70, 5),
        complete("cpu_op", "crossing", 72, 9),
        {"ph": "B", "name": "b", "ts": 1},
        {"ph": "X", "name": "untimed"},
        "not an event",
    ]
    summary = summarise(read_trace(written(tmp_path / "t.json", events)))
    said = " ".join(summary.notes)
    for part in (
        "martian_op (2)",
        "1 events with a negative time",
        "1 events without a time",
        "1 events begin without an end",
        "1 entries are not events",
        "1 events of the host overlap",
        "no step is marked",
    ):
        assert part in said
    assert [row.name for row in summary.operators] == ["aten::mm", "crossing", "late"]


@pytest.mark.parametrize(
    "odd",
    [
        {"tid": "stream 7", "pid": "Spans"},
        {"args": None},
        {"args": {"correlation": "0x12", "stream": "0x0", "External id": 1.0}},
        {"args": {"correlation": 2**70, "device": None, "blocks per SM": "much"}},
        {"name": None, "cat": None},
        {"ts": "5.5"},
        {"args": []},
        {"name": '\u00e9 \u2028 },{ "ph" \\'},
    ],
)
def test_odd_fields_are_read_as_far_as_they_go(odd: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", [OP, OP | odd, complete("kernel", "k", 6, 1) | odd])
    trace = read_trace(path)
    assert len(trace.events) == 3
    summarise(trace)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(json.dumps({"traceEvents": [OP]}).encode().replace(b"aten::mm", b"a\xff\xfeb"))
    (name,) = read_trace(path).names
    assert name.startswith("a") and name.endswith("b")
