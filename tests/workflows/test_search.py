"""Searches whose trials are runs: queued, told, gone on with after kills; what goes wrong is kept with its reason."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from hybridlab.architecture.document import load
from hybridlab.architecture.model import build
from hybridlab.errors import RunError, SpecError
from hybridlab.planning.fusion.maps import FusedLinear
from hybridlab.planning.record import Plan
from hybridlab.runs.home import home_id
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import Capacity
from hybridlab.runs.store import open_store
from hybridlab.runs.supervisor import Supervisor
from hybridlab.search.claims import HOLDER
from hybridlab.search.description import DESCRIPTION, description_of
from hybridlab.search.export import export
from hybridlab.search.halving import PRICES
from hybridlab.search.places import opened, place_of, studies
from hybridlab.search.record import StudyReader
from hybridlab.search.study import ABOUT, REASON
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import read_settings
from hybridlab.workflows import trial_runs
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.search import front_of_study, run_search, work_on

WORKER = Path(__file__).parent / "trial_worker.py"
DESIGN = """
name: small
width: 8
nodes:
  - {id: mix, use: attention, heads: 2}
  - {use: mlp}
"""
SEARCH = """
name: tiny
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 8, longer: 12}, steps: 18, batch: 4, warmup_steps: 1, device: cpu}
search:
  width: [8, 12, 16, 20]
  mix: {heads: [2]}
objectives: [val_accuracy, peak_bytes]
sampler: grid
trials: 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(DESIGN)
    path = tmp_path / "tiny.yaml"
    path.write_text(SEARCH.replace("ARCHITECTURE", str(tmp_path / "small.yaml")))
    return path


class Pump:
    """The product's supervisor with quick workers, in this process: it looks whenever the search does."""

    def __init__(self) -> None:
        self.store = open_store()
        command = [sys.executable, str(WORKER), "--wait"]
        self.supervisor = Supervisor(self.store, given=Capacity(2, 2), command=command)
        self.on_look: Callable[[list[Run]], None] = lambda runs: None

    def look(self) -> bool:
        self.supervisor.tick(time.monotonic())
        self.on_look(self.store.active(home_id()))
        return True

    def close(self) -> None:
        self.supervisor.close(kill=True)
        for child in self.supervisor._children.values():
            child.kill()
            child.wait()


@pytest.fixture
def pump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pump]:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.setattr("hybridlab.runs.launcher._call", lambda: None)
    made = Pump()
    monkeypatch.setattr(trial_runs, "ensure_supervisor", made.look)
    yield made
    made.close()


def test_trials_are_runs_and_outlive_kills(file: Path, pump: Pump) -> None:
    killed: list[str] = []

    def kill(runs: list[Run]) -> None:
        for run in runs:
            begun = run.state is RunState.RUNNING and run.heartbeat and run.attempt == 1
            if begun and len(killed) < 2 and run.id not in killed and run.pid:
                os.kill(run.pid, signal.SIGKILL)
                killed.append(run.id)

    pump.on_look = kill
    told: list[tuple[int, int]] = []
    front = run_search(
        file, study="one", workers=2, on_trial=lambda done, of: told.append((done, of))
    )
    assert len(killed) == 2
    assert told == [(done, 4) for done in range(1, 5)]
    assert (front.trials, front.failed, front.stopped) == (4, 2, 1)
    study = opened("one")
    runs = {run.id: run for run in pump.store.list(kind="search")}
    assert len(runs) == 4, "one run a trial, also for those that were killed"
    for trial in study.trials:
        run = runs[trial.user_attrs[trial_runs.RUN]["id"]]
        assert run.name == f"one trial {trial.number}"
        assert run.spec["architecture"] == trial.user_attrs[trial_runs.ARCHITECTURE]
        assert run.spec["training"]["eval_every"] == run.spec["search"]["rungs"][0] == 2
        assert trial.user_attrs[PRICES][0] is None and trial.user_attrs[PRICES][1] > 0
        reason = trial.user_attrs.get(REASON, "")
        width = trial.params["width"]
        if width == 8:
            assert trial.values == [0.5 + run.attempt / 100, trial.user_attrs[PRICES][1]]
        assert {8: "", 12: "memory", 16: "not finite", 20: "after 2 steps"}[width] in reason
    assert {run.attempt for run in runs.values()} == {1, 2}
    assert {point.trial for point in front.points} <= {
        trial.number for trial in study.trials if trial.params["width"] == 8
    }
    again = work_on("one")
    assert again.as_dict() == front.as_dict(), "it is done: nothing is begun"


def test_the_next_driver_finds_the_runs_of_one_that_died(file: Path, pump: Pump) -> None:
    run_search(file, study="one", trials=1)
    study = opened("one")
    begun = create_trial(state=TrialState.RUNNING, user_attrs={HOLDER: ""})
    study._storage.create_new_trial(study._study_id, begun)
    # Its driver died between queueing the run and noting it; the run went on and is done.
    first = pump.store.list(kind="search")[0]
    spec = {**first.spec, "search": {**first.spec["search"], "trial": 1}}
    orphan = trial_runs.submit("search", "one trial 1", spec)
    while pump.store.get(orphan.id).state is not RunState.DONE:
        pump.look()
        time.sleep(0.02)
    front = run_search(file, study="one", trials=2)
    assert front.trials == 2
    assert opened("one").trials[1].user_attrs[trial_runs.RUN]["id"] == orphan.id
    assert len(pump.store.list(kind="search")) == 2


def test_a_stopped_driver_stops_its_runs_and_they_go_on_later(file: Path, pump: Pump) -> None:
    asked: list[bool] = []
    pump.on_look = lambda runs: asked.extend(True for run in runs if run.heartbeat)
    front = run_search(file, study="one", trials=1, should_stop=lambda: bool(asked))
    assert front.trials == 1 and not front.points
    trial = opened("one").trials[0]
    assert trial.user_attrs[HOLDER] == ""
    pump.on_look = lambda runs: None
    run_id = trial.user_attrs[trial_runs.RUN]["id"]
    while pump.store.get(run_id).state is RunState.RUNNING:
        pump.look()
        time.sleep(0.02)
    assert pump.store.get(run_id).state is RunState.CANCELLED
    assert work_on("one").trials == 1
    run = pump.store.get(run_id)
    assert run.attempt == 2 and opened("one").trials[0].state.is_finished()


def test_a_cancelled_and_a_deleted_run_end_their_trials(file: Path, pump: Pump) -> None:
    def meddle(runs: list[Run]) -> None:
        for run in runs:
            if run.state is RunState.QUEUED and run.name.endswith("trial 0"):
                pump.store.request_cancel(run.id)
            elif run.state is RunState.QUEUED and run.name.endswith("trial 1"):
                pump.store.delete(run.id)

    pump.supervisor.tick = lambda now: False  # nothing starts
    pump.on_look = meddle
    run_search(file, study="one", trials=2, workers=2)
    reasons = [trial.user_attrs[REASON] for trial in opened("one").trials]
    assert reasons == ["its run was cancelled", "its run was deleted"]


def test_designs_beyond_a_limit_are_no_runs(file: Path, pump: Pump) -> None:
    text = file.read_text().replace("trials: 4", "limits: {peak_bytes: 44 KiB}\ntrials: 4")
    file.write_text(text)
    front = run_search(file, study="one", trials=4, workers=2)
    small = [trial for trial in opened("one").trials if trial.params["width"] == 8]
    assert (front.trials, front.failed, len(small)) == (4, 3, 1)
    assert len(pump.store.list(kind="search")) == 1
    file.write_text(text.replace("44 KiB", "1 KiB"))
    with pytest.raises(SpecError, match="no design of the space"):
        run_search(file, study="two")
    assert "two" not in studies(), "what cannot be is refused before anything is made"


def test_what_is_of_another_space_or_version_is_refused(file: Path, pump: Pump) -> None:
    pump.supervisor.tick = lambda now: False
    place = str(file.parent / "elsewhere.journal")
    run_search(file, study="one", storage=place, should_stop=lambda: True)
    assert place_of("one") == place and studies() == ["one"]
    about = description_of(opened("one"))
    assert about.size == 4 and about.sampler == "grid" and about.rungs == [2, 6]
    assert about.spec.task == "parity" and "heads: 2" in about.architecture
    file.with_name("small.yaml").unlink()
    assert front_of_study("one").trials == 0, "it needs no file any more"
    file.with_name("small.yaml").write_text(DESIGN.replace("heads: 2", "heads: 4"))
    with pytest.raises(RunError, match="its space or task"):
        run_search(file, study="one")
    with pytest.raises(RunError, match="did you mean 'one'"):
        work_on("ones")
    for name in ("../one", ".one", "a/b"):
        with pytest.raises(SpecError, match="not a name"):
            run_search(file, study=name)
    study = opened("one")
    study.set_user_attr(DESCRIPTION, {})
    with pytest.raises(RunError, match="does not say which search"):
        work_on("one")
    study.set_user_attr(ABOUT, {**study.user_attrs[ABOUT], "version": 2})
    with pytest.raises(RunError, match="newer HybridLab"):
        work_on("one")


def test_a_trial_with_a_plan_is_trained_by_it(file: Path, pump: Pump) -> None:
    marks = "search:\n  plan: [none, 60%]"
    text = file.read_text().replace("search:\n  width: [8, 12, 16, 20]", marks)
    file.write_text(text.replace("batch: 4", "batch: 64"))
    run_search(file, study="one", trials=2)
    runs = {run.spec["search"]["trial"]: run for run in pump.store.list(kind="search")}
    for row in StudyReader("one").read().trials:
        settings = runs[row.number].spec["training"]
        assert row.design["plan"] in ("none", "60%")
        assert (settings["plan"] is None) is (row.design["plan"] == "none")
        assert (settings["plan"] or {}) == row.training.get("plan", {})
        if row.training:
            assert Plan.read(row.training["plan"]).predicted.peak_bytes == row.values[1]


def test_what_a_design_decides_is_trained_kept_and_exported(file: Path, pump: Pump) -> None:
    marks = "search:\n  precision: [bfloat16]\n  fusion: [none, all]"
    text = file.read_text().replace("search:\n  width: [8, 12, 16, 20]", marks)
    file.write_text(text.replace("peak_bytes]", "peak_bytes, measured_step_ms]"))
    front = run_search(file, study="one", trials=2, workers=2)
    runs = {run.spec["search"]["trial"]: run for run in pump.store.list(kind="search")}
    rows = StudyReader("one").read().trials
    assert sorted(row.design["fusion"] for row in rows) == ["all", "none"]
    for row in rows:
        settings = runs[row.number].spec["training"]
        assert row.values[2] == 2.0 and row.values[1] > 0
        assert settings["precision"] == row.training["precision"] == "bfloat16"
        assert (row.design["fusion"] == "all") is bool(settings["fusion"])
        assert settings["fusion"] == row.training.get("fusion")
    folder = file.parent / "front"
    files = export(front, folder)
    names = sorted(one.relative_to(folder).as_posix() for one in files)
    numbers = [point.trial for point in front.points]
    assert names[:2] == ["front.csv", "front.json"] and len(names) == 2 + 2 * len(numbers)
    for number in numbers:
        place = folder / f"trial-{number:04}"
        task, spec = prepare(read_settings(place / "training.yaml"))
        model = build(fit(load(place / "architecture.yaml"), task), task.input_type(), seed=0)
        as_trained(model, spec)
        fused = any(isinstance(one, FusedLinear) for one in model.modules())
        assert spec.precision == "bfloat16" and spec.steps == 18
        assert fused is (rows[number].design["fusion"] == "all")
    (folder / "trial-0009").mkdir()
    (folder / "trial-0009" / "training.yaml").touch()
    assert export(front, folder) == files and not (folder / "trial-0009").exists()
