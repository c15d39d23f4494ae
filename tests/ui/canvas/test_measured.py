"""The canvas hears of the newest training of the very design that is open, by the addresses it draws."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybridlab.architecture import edit, library
from hybridlab.hardware.meters.energy import Counter, EnergyAccount
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import Store, open_store
from hybridlab.ui.canvas import measured
from hybridlab.ui.canvas.measured import Trainings, message
from hybridlab.ui.live import reader as live
from hybridlab.ui.state import Design

POINTS = {
    "loss": 0.7,
    "grad_norm": 3.0,
    "grad_norm/stage": 2.0,
    "grad_norm/stage.0.moe": 1.0,
    "grad_norm/stage.moe": 1.5,
    "update_ratio/stage.moe": 0.01,
    "expert_load/stage.0.moe/0": 0.9,
    "expert_load/stage.moe/1": 0.75,
    "expert_load/stage.moe/0": 0.25,
}
Begin = Callable[..., Run]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.setattr(live, "ensure_supervisor", lambda: True)
    monkeypatch.setattr(measured, "_trainings", Trainings())
    monkeypatch.setattr(measured, "_profiles", Trainings("profile"))
    clock = itertools.count(0, 10)  # each look is ten seconds after the one before
    monkeypatch.setattr(live.time, "monotonic", lambda: float(next(clock)))
    (tmp_path / "home").mkdir()
    opened = open_store()
    yield opened
    opened.close()


@pytest.fixture
def text() -> str:
    return library.find("jamba_mini").read_text(encoding="utf-8")


@pytest.fixture
def begin(store: Store) -> Begin:
    """Return a function that puts a training of a text into the store, at a step, in a state."""

    def made(text: str, name: str = "mine", step: int = 20, state: RunState | None = None) -> Run:
        spec = {"architecture": text, "training": {"task": "parity"}}
        run = store.create("train", name, spec, home=home_id())
        if state is RunState.QUEUED:
            return run
        store.leases.claim(run.id, "token", pid=1, birth="then")
        points = [Point(step, metric, value, 1.0) for metric, value in POINTS.items()]
        store.leases.beat(Lease(run.id, "token"), points, step=step, steps=100)
        if state is not None:
            store.leases.finish(Lease(run.id, "token"), state)
        return store.get(run.id)

    return made


def said(text: str) -> dict[str, object]:
    return message(Design(text, "a test"), "seed")


def test_values_stand_under_the_canvas_own_addresses(begin: Begin, text: str) -> None:
    run = begin(text)
    told = said(text)
    assert told["seed"] == "seed"
    assert told["run"] == {
        "id": run.id,
        "name": "mine",
        "state": "running",
        "task": "parity",
        "step": 20,
        "steps": 100,
    }
    assert told["values"] == {
        "grad_norm": {"stage": 2.0, "stage.moe": 1.5},
        "update_ratio": {"stage.moe": 0.01},
        "expert_load": {"stage.moe": [0.25, 0.75]},
    }


def test_new_points_are_there_at_the_next_look(begin: Begin, store: Store, text: str) -> None:
    run = begin(text)
    said(text)
    newer = [Point(40, "grad_norm/stage", 9.0, 2.0)]
    store.leases.beat(Lease(run.id, "token"), newer, step=41, steps=100)
    told = said(text)
    assert told["values"]["grad_norm"]["stage"] == 9.0  # type: ignore[index]
    assert told["run"]["step"] == 40, "the step of the values, not of the run"  # type: ignore[index]


def test_only_a_training_of_this_very_design_counts(begin: Begin, text: str) -> None:
    begin(text)
    assert said(edit.set_field(text, "name", "another name"))["run"] is not None
    assert said(edit.set_field(text, "width", 32))["run"] is None
    assert said("nodes: {")["run"] is None


def test_a_running_one_comes_first_then_the_newest(begin: Begin, store: Store, text: str) -> None:
    begin(text, "old", state=RunState.DONE)
    begin(text, "new", state=RunState.CANCELLED)
    assert said(text)["run"]["name"] == "new"  # type: ignore[index]
    begin(text, "waiting", state=RunState.QUEUED)
    assert said(text)["run"]["name"] == "new"  # type: ignore[index]
    begin(text, "running")
    begin(text, "newest", state=RunState.DONE)
    assert said(text)["run"]["name"] == "running"  # type: ignore[index]


def test_many_old_runs_are_read_a_few_at_a_time(begin: Begin, text: str) -> None:
    spelt = text.replace("name: jamba-mini", "name: the-same")
    assert spelt != text
    begin(spelt, "mine", state=RunState.DONE)
    for width in range(8, 72, 8):
        begin(edit.set_field(text, "width", width + 1), state=RunState.DONE)
    looks = 0
    while said(text)["run"] is None:
        looks += 1
        assert looks < 10
    assert looks >= 2, "everything was read at one look"


def energy(*joules: float) -> dict[str, object]:
    """Return what a training writes of its energy with a counter that tells these joules; with none, without one."""
    told = iter([0.0, 0.0, *joules])
    counters = [Counter("stand-in", "all of it", lambda: next(told))] if joules else []
    absent = [] if joules else [NotMeasured("energy", "there is no counter here")]
    window = EnergyAccount(counters, absent, clock=itertools.count().__next__).window("attempt 1")()
    attempt = {"attempt": 1, "from_step": 0, "to_step": 20, "reason": window.reason}
    return {"attempts": [attempt | window.as_dict()]}


def test_energy_is_shared_out_by_measured_time_or_said_to_be_missing(
    begin: Begin, store: Store, text: str
) -> None:
    run = begin(text, state=RunState.DONE)
    folder = run_folder(run.id)
    folder.mkdir(parents=True)
    (folder / "energy.json").write_text(json.dumps(energy()))
    assert said(text)["why"] == {
        "energy_j": "No energy was measured in this training: there is no counter here."
    }
    (folder / "energy.json").write_text(json.dumps(energy(40.0)))
    told = said(text)
    assert "energy_j" not in told["values"]  # type: ignore[operator]
    assert told["why"]["energy_j"] == (  # type: ignore[index]
        "A step took 2 J, measured. Profile this design on parity, and it is shared out by measured time."
    )
    for task in ("copying", "parity"):
        spec = {"architecture": text, "training": {"task": task}}
        profile = store.create("profile", task, spec, home=home_id())
        store.leases.claim(profile.id, "other", pid=1, birth="then")
        store.leases.finish(Lease(profile.id, "other"), RunState.DONE)
        parts = {"stage.0.moe": 0.25, "stage.1.moe": 0.15, "stage.0.swiglu": 0.1, "(loss)": 0.5}
        where = run_folder(profile.id) / "profile"
        where.mkdir(parents=True)
        listed = [{"path": path, "share": share} for path, share in parts.items()]
        (where / "profile.json").write_text(json.dumps({"components": listed}))
        if task == "copying":
            assert said(text)["why"], "the time of another task says nothing of this one"
    told = said(text)
    shares = told["values"]["energy_j"]  # type: ignore[index]
    assert shares == pytest.approx({"stage": 1.0, "stage.moe": 0.8, "stage.swiglu": 0.2})
    assert told["why"] == {}


def test_a_store_that_cannot_be_read_leaves_the_canvas_alone(
    monkeypatch: pytest.MonkeyPatch, text: str, store: Store
) -> None:
    monkeypatch.setenv("HYBRIDLAB_STORE", "sqlite:////proc/nowhere/store.sqlite")
    assert said(text)["run"] is None
