"""A training with a teacher as a run: what is settled before it, what its result says, and itself alone beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridlab.errors import SpecError
from hybridlab.runs import launcher
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run, RunState, new_id
from hybridlab.training.spec import make
from hybridlab.workflows import alone, train
from hybridlab.workflows.alone import alone_of, distillation_of, start_alone
from hybridlab.workflows.distill import kept
from hybridlab.workflows.launch import prepared
from tests.workflows.test_train import TRAINING, Context

TEACHER = "name: big-one\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n  - {use: lstm}\n"
STUDENT = "name: small\nwidth: 8\nnodes:\n  - {use: attention, heads: 2}\n"
LEARN = {"run": "latest:big_one", "hidden": {}, "logits": {"temperature": 3}}


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train a teacher in a home of its own; return its id."""
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(launcher, "_call", lambda: None)  # no supervisor starts what is queued
    run = new_id()
    run_folder(run).parent.mkdir(parents=True)
    spec = {"architecture": TEACHER, "training": make(TRAINING).model_dump(mode="json")}
    train.run(Context(run_folder(run), spec))  # type: ignore[arg-type]
    return run


def test_what_may_change_later_is_settled_before_a_run_is_queued(teacher: str) -> None:
    made = prepared(STUDENT, {**TRAINING, "teacher": LEARN})["training"]["teacher"]
    assert made["run"] == teacher
    assert made["layers"] == [{"teacher": "lstm", "student": "attention"}]
    assert prepared(STUDENT, TRAINING)["training"]["teacher"] is None


def test_a_phase_that_never_begins_is_told(teacher: str) -> None:
    phases = [{"losses": ["hidden"], "steps": 10}, {"losses": ["logits"]}]
    with pytest.raises(SpecError, match="begins after step 10") as caught:
        prepared(STUDENT, {**TRAINING, "teacher": {**LEARN, "phases": phases}})
    assert caught.value.problems[0].path == "teacher.phases[1]"


def test_the_result_says_what_was_kept_and_saved(teacher: str, tmp_path: Path) -> None:
    settings = prepared(STUDENT, {**TRAINING, "teacher": LEARN})["training"]
    context = Context(tmp_path / "run", {"architecture": STUDENT, "training": settings})
    result = train.run(context)  # type: ignore[arg-type]
    told = result["distillation"]
    assert json.loads(json.dumps(told)) == told
    assert told["teacher"]["run"] == teacher
    theirs = json.loads((run_folder(teacher) / "result.json").read_text())["metrics"]
    assert told["teacher"]["metrics"] == {
        name: value for name, value in theirs.items() if name.startswith("test_")
    }
    main = told["metric"]
    assert told["kept"] == result["metrics"][main] / theirs[main]
    for name in ("params", "weight_bytes", "flops_per_sample", "step_ms", "step_bytes"):
        assert told["saved"][name] == 1 - told["student"][name] / told["teacher"][name]
    assert told["student"]["params"] == result["params"]
    assert told["saved"]["flops_per_sample"] > 0.5
    names = {name for _, name, _ in context.points}
    assert {"distill_hard", "distill_logits", "distill_hidden"} <= names


def test_less_is_better_turns_the_share_round() -> None:
    assert kept(0.45, 0.9, higher_is_better=True) == 0.5
    assert kept(4.0, 2.0, higher_is_better=False) == 0.5
    assert kept(None, 2.0, higher_is_better=False) is None
    assert kept(0.4, 0.0, higher_is_better=True) is None


def test_the_student_alone_is_the_same_run_without_the_teacher(teacher: str) -> None:
    training = prepared(STUDENT, {**TRAINING, "teacher": LEARN})["training"]
    spec = {"architecture": STUDENT, "training": training, "preset": None}
    run = launcher.submit("train", "s", spec, threads=1, device="cpu")
    assert alone.learns_from_teacher(run) and alone_of(run) is None
    for other in (
        {**spec, "training": {**training, "teacher": None, "seed": 5}},
        {**spec, "training": {**training, "teacher": None}, "architecture": TEACHER},
    ):
        launcher.submit("train", "other", other, threads=1, device="cpu")
    assert alone_of(run) is None, "another seed, or another network, is another training"
    twin = start_alone(run)
    assert twin.spec["training"] == {**training, "teacher": None}
    assert (twin.threads, twin.device) == (run.threads, run.device)
    found = alone_of(run)
    assert found is not None and found.id == twin.id


@pytest.mark.parametrize(("higher", "gained"), [(True, 0.1), (False, -0.1)])
def test_what_the_teacher_brought_is_told_beside_the_student_alone(
    teacher: str, monkeypatch: pytest.MonkeyPatch, higher: bool, gained: float
) -> None:
    told = {
        "metric": "m",
        "higher_is_better": higher,
        "student": {"metrics": {"m": 0.9}},
        "teacher": {},
    }
    training = prepared(STUDENT, {**TRAINING, "teacher": LEARN})["training"]
    run = launcher.submit("train", "s", {"architecture": STUDENT, "training": training})
    assert distillation_of(run) is None
    ended = _with(run, state=RunState.DONE, result={"distillation": told})
    assert distillation_of(ended) == {**told, "alone": None}
    twin = start_alone(run)
    assert distillation_of(ended) == {**told, "alone": None}, "it has not ended"
    done = _with(twin, state=RunState.DONE, result={"metrics": {"m": 0.8}})
    monkeypatch.setattr(alone, "alone_of", lambda run: done)
    beside = distillation_of(ended)
    assert beside is not None
    assert beside["alone"]["run"] == twin.id
    assert beside["alone"]["gained"] == pytest.approx(gained)


def _with(run: Run, **changes: Any) -> Run:
    return replace(run, **changes)
