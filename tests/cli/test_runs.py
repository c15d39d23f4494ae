"""Verbs about runs, on a store that holds some."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store
from tests.cli.conftest import Said

Cli = Callable[..., Said]


@pytest.fixture
def cancelled(home: Path) -> Run:
    """A run that was cancelled in the queue, with a folder and a log."""
    store = open_store()
    run = store.create("train", "digits <b>", {"architecture": "name: x"}, home=home_id())
    folder = run_folder(run.id)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("first line\nlast line\n")
    return store.request_cancel(run.id)


def test_no_runs_yet(cli: Cli) -> None:
    assert cli("runs", "--json").json == []
    assert "no runs yet" in cli("runs").err


def test_runs_are_listed(cli: Cli, cancelled: Run) -> None:
    for arguments in (("runs", "--json"), ("runs", "list", "--json")):
        (entry,) = cli(*arguments).json
        assert entry["id"] == cancelled.id
        assert entry["state"] == "CANCELLED"
        assert entry["name"] == "digits <b>"
    assert cancelled.id in cli("runs").out
    assert cli("runs", "--state", "done", "--json").json == []
    assert len(cli("runs", "--state", "cancelled", "--json").json) == 1
    assert cli("runs", "--state", "lost", "--json").code == 2


def test_a_run_is_shown_by_the_start_of_its_id(cli: Cli, cancelled: Run) -> None:
    said = cli("runs", "show", cancelled.id[:10], "--json")
    assert said.json["id"] == cancelled.id
    assert "digits <b>" in cli("runs", "show", cancelled.id).out


def test_its_log_is_printed(cli: Cli, cancelled: Run) -> None:
    assert cli("runs", "log", cancelled.id).out == "first line\nlast line\n"
    said = cli("runs", "log", cancelled.id, "--bytes", "10", "--json")
    assert said.json["log"] == "last line\n"


def test_it_is_exported(cli: Cli, cancelled: Run, tmp_path: Path) -> None:
    target = tmp_path / "run.zip"
    said = cli("runs", "export", cancelled.id, "-o", str(target), "--json")
    assert said.json["bytes"] == target.stat().st_size
    names = zipfile.ZipFile(target).namelist()
    assert f"{cancelled.id}/log.txt" in names
    assert cli("runs", "export", cancelled.id, "-o", "/nowhere/at/all.zip", "--json").code == 2


def test_it_is_deleted(cli: Cli, cancelled: Run) -> None:
    assert cli("runs", "delete", cancelled.id, "--json").json["deleted"] is True
    assert cli("runs", "--json").json == []
    assert not run_folder(cancelled.id).exists()
    assert cli("runs", "delete", cancelled.id, "--json").code == 2


@pytest.mark.parametrize("verb", ["show", "resume", "cancel", "delete", "log"])
@pytest.mark.parametrize("run", ["nothing", "", "../../etc", "%", "x" * 3000])
def test_runs_that_are_not_there(cli: Cli, cancelled: Run, verb: str, run: str) -> None:
    said = cli("runs", verb, run, "--json")
    assert said.code == 2
    assert "defect" not in said.err
    assert len(said.err) < 500


def test_a_store_that_cannot_be_opened(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "file"))
    said = cli("runs", "--json")
    assert said.code == 1
    assert "HYBRIDLAB_HOME" in said.json["errors"][0]["fix"]
