"""Verbs about runs, on a store that holds some."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybridlab.runs import launcher
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.profile_request import ProfileState, read, write
from hybridlab.runs.record import Run, RunState
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


@pytest.fixture
def running(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that a worker has, as far as the store can tell; no supervisor comes to look after it."""
    monkeypatch.setattr(launcher, "_spawn", lambda *given: SimpleNamespace(poll=lambda: None))
    store = open_store()
    run = store.create("train", "x", {}, home=home_id())
    found = store.leases.claim(run.id, "token", pid=1, birth="then")
    assert found is not None
    return found


def test_a_run_is_asked_for_a_profile_and_its_trace_is_told(cli: Cli, running: Run) -> None:
    said = cli("runs", "profile", running.id, "--steps", "7", "--no-wait", "--json")
    assert (said.code, said.json["state"], said.json["path"]) == (0, "asked", None)
    folder = run_folder(running.id)
    asked = read(folder)
    assert asked is not None and asked.steps == 7
    again = cli("runs", "profile", running.id, "--json")
    assert again.code == 2
    assert "being profiled already" in again.json["errors"][0]["message"]
    write(folder, replace(asked, state=ProfileState.FAILED, message="gone"))

    def work() -> None:
        while (request := read(folder)) is None or request.state is not ProfileState.ASKED:
            time.sleep(0.01)
        done = replace(request, state=ProfileState.WRITTEN, first_step=8, recorded=3, file="a.gz")
        write(folder, done)

    worker = threading.Thread(target=work)
    worker.start()
    said = cli("runs", "profile", running.id, "--steps", "3", "--json")
    worker.join()
    assert said.code == 0
    assert said.json["path"] == str(folder / "profile" / "a.gz")
    assert (said.json["first_step"], said.json["recorded"]) == (8, 3)


def test_a_run_that_ends_before_its_profile_is_told_in_a_sentence(cli: Cli, running: Run) -> None:
    store = open_store()
    ended = threading.Timer(
        0.3, store.leases.finish, (Lease(running.id, "token"), RunState.CANCELLED)
    )
    ended.start()
    said = cli("runs", "profile", running.id, "--json")
    ended.join()
    assert said.code == 1
    message = "The run ended (cancelled) before the profile began."
    assert said.json["errors"][0]["message"] == message
    refused = cli("runs", "profile", running.id, "--json")
    assert refused.code == 2
    assert "no next steps" in refused.json["errors"][0]["message"]
    assert cli("runs", "profile", running.id, "--steps", "0").code == 2


@pytest.mark.parametrize("verb", ["show", "profile", "resume", "cancel", "delete", "log"])
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


def test_its_gradient_flow_is_told_and_a_remedy_starts_a_run(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "ensure_supervisor", lambda: None)
    text = "name: two\nwidth: 8\nnodes:\n  - {id: low, use: gru}\n  - {id: high, use: mlp}\n"
    store = open_store()
    spec = {"architecture": text, "training": {"task": "parity", "steps": 40}}
    run = store.create("train", "two on parity", spec, home=home_id())
    store.leases.claim(run.id, "token", pid=1, birth="then", granted="cpu")
    assert "component_metrics_every was 0" in cli("runs", "flow", run.id).err
    quiet = {"low": 1e-6, "high": 0.1, "token_embedding": 0.1}
    points = [
        Point(step, f"grad_norm/{path}", norm, 1.0)
        for step in (10, 20, 30, 40)
        for path, norm in quiet.items()
    ]
    store.leases.beat(Lease(run.id, "token"), points, step=40, steps=40)

    said = cli("runs", "flow", run.id, "--json").json
    assert said["steps"] == [10, 20, 30, 40] and said["ratio"] == pytest.approx([1e5] * 4)
    assert said["components"]["low"] == {"grad_norm": 1e-6}
    kinds = [one["kind"] for one in said["findings"]]
    assert "vanishing" in kinds
    number = kinds.index("vanishing") + 1
    words = cli("runs", "flow", run.id).out
    assert f"{number}. low: gradient 100,000 times smaller than its neighbours'" in words
    assert f"{number}.rate" in words

    said = cli("runs", "flow", run.id, "--apply", "9.rate", "--json")
    assert said.code == 2 and f"{number}.rate" in said.json["errors"][0]["expected"]
    said = cli("runs", "flow", run.id, "--apply", f"{number}.rate", "--json")
    new = store.get(said.json["started"])
    assert new.name == "two on parity · Rate × 10"
    assert new.spec["architecture"] == text
    assert new.spec["training"]["groups"][0]["rate"] == 10.0
