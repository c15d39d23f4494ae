"""Traces that somebody opened: kept once, named as their owner knows them, refused with a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridlab.errors import RunError
from hybridlab.runs import traces
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import new_id


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_an_upload_is_a_file_of_its_own(home: Path) -> None:
    source = traces.add_upload("../../etc/a\nb.json.gz", iter([b"ab", b"c"]))
    assert source.name == "a b.json.gz" and source.size_bytes == 3
    assert Path(source.file).read_bytes() == b"abc"
    assert Path(source.file).is_relative_to(home / "traces" / source.id)
    assert traces.all_traces() == [source] and traces.get(source.id) == source
    home.rename(home.with_name("moved"))
    os.environ["HYBRIDLAB_HOME"] = str(home.with_name("moved"))
    assert Path(traces.get(source.id).file).read_bytes() == b"abc"
    traces.forget(source.id)
    assert traces.all_traces() == []


def test_an_upload_over_the_limit_leaves_nothing(home: Path) -> None:
    taken = 0

    def chunks():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 1024**2

    with pytest.raises(
        RunError, match=r"big.json: is too large to be uploaded \(expected at most 4"
    ):
        traces.add_upload("big.json", chunks(), 4 * 1024**2)
    assert taken == 5 and list((home / "traces").iterdir()) == []


def test_a_file_of_this_machine_is_opened_once_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text("{}")
    first = traces.add_file(file)
    assert traces.add_file(file) == first and first.how == "path"
    file.write_text("{ }")
    second = traces.add_file(file)
    assert second.id != first.id
    assert [source.id for source in traces.all_traces()] == [second.id, first.id]
    traces.forget(second.id)
    assert file.exists()


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("none", "no such file"), ("", "is a folder"), ("pipe", "no regular file")):
        with pytest.raises(RunError, match=why):
            traces.add_file(tmp_path / name)
    for bad in ("../x", "a" * 12, "", "0123456789a/"):
        with pytest.raises(RunError):
            traces.get(bad)


def test_a_runs_trace_is_found_by_its_name_alone() -> None:
    run_id = new_id()
    folder = run_folder(run_id) / "profile"
    folder.mkdir(parents=True)
    (folder / "host.5.pt.trace.json.gz").write_bytes(b"x")
    found = traces.add_from_run(run_id, "host.5.pt.trace.json.gz")
    assert (found.how, found.run, found.size_bytes) == ("run", run_id, 1)
    with pytest.raises(RunError, match="has no such trace"):
        traces.add_from_run(run_id, "../../../store.sqlite")
