"""The Train page's teacher: chosen among finished runs, with what counts of it; and what a student's run shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.training.imported import imported, note
from hybridlab.ui import predictions
from hybridlab.ui.train import teachers
from hybridlab.ui.worker_pool import Answer
from tests.app.held import in_session

TEXT = library.find("lstm_attention_mini").read_text(encoding="utf-8")


def teacher(visitor) -> dict[str, Any]:
    return dict(in_session(visitor.at, "settings.parity").get("teacher") or {})


def choose(visitor, label: str, wanted: str) -> None:
    (box,) = [box for box in visitor.at.selectbox if box.label == label]
    visitor.give(box, wanted)


@pytest.fixture
def opened(visitor, runs):
    """The Train page with a preset and parity chosen, and a finished run of it."""
    run = runs.ended("the old one", text=TEXT)
    weigh(run)
    runs.ended("of another task", text=TEXT, task="mqar")
    runs.queued("not yet", text=TEXT)
    visitor.open("2_Train")
    choose(visitor, "Architecture", "preset attention_mini")
    choose(visitor, "Task", "parity")
    visitor.run = run
    return visitor


def weigh(run: Run) -> None:
    """Leave in a run's folder what a training leaves."""
    from hybridlab.architecture.document import loads
    from hybridlab.architecture.model import build
    from hybridlab.tasks.registry import fit, task
    from hybridlab.training.weights import write_weights

    what, folder = task("parity"), run_folder(run.id)
    model = build(fit(loads(TEXT), what), what.input_type(), seed=0)
    write_weights(model.state_dict(), folder / "weights.safetensors")
    (folder / "architecture.yaml").write_text(TEXT)
    (folder / "training.json").write_text(json.dumps({"task": "parity"}))


def test_only_finished_runs_on_the_task_may_teach(opened) -> None:
    (box,) = [box for box in opened.at.selectbox if box.label == "Teacher"]
    assert box.options == ["nobody", f"the old one ({opened.run.id})"]


@pytest.fixture(autouse=True)
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check settings in this process: the warm ones have another home, in which nobody could teach."""
    from hybridlab.workflows.launch import prepared

    def checked(text: str, settings: dict[str, Any], *_: Any) -> Answer:
        try:
            return Answer(prepared(text, settings))
        except HybridLabError as error:
            return Answer(problems=error.problems)

    monkeypatch.setattr(predictions, "prepare", checked)
    monkeypatch.setattr(predictions, "trainable", checked)


def test_a_teacher_its_losses_and_its_layers_go_into_the_run(opened, runs) -> None:
    choose(opened, "Teacher", opened.run.id)
    (hidden,) = [toggle for toggle in opened.at.toggle if toggle.label == "Hidden states"]
    opened.give(hidden, True)
    (staged,) = [
        toggle for toggle in opened.at.toggle if toggle.label == "One loss after the other"
    ]
    opened.give(staged, True)
    assert teacher(opened)["phases"] == [
        {"losses": ["hidden"], "steps": 100},
        {"losses": ["logits", "hard"]},
    ]
    (steps,) = [n for n in opened.at.number_input if n.label.startswith("Steps of each phase")]
    opened.give(steps, 7)
    tables = [t for t in opened.at.dataframe if "student" in t.value.columns]
    assert tables or opened.at.get("arrow_data_frame")
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    assert not opened.at.error, [error.value for error in opened.at.error]
    (run,) = [run for run in runs.store.list(kind="train") if run.spec["training"].get("teacher")]
    found = run.spec["training"]["teacher"]
    assert found["run"] == opened.run.id
    assert found["phases"][0] == {"losses": ["hidden"], "steps": 7}
    assert found["layers"] == [
        {"teacher": "lstm", "student": "attention"},
        {"teacher": "attention", "student": "attention_2"},
    ]


def test_nobody_teaches_unless_chosen(opened, runs) -> None:
    choose(opened, "Teacher", opened.run.id)
    choose(opened, "Teacher", "")
    assert teacher(opened) == {}
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    assert [r.spec["training"].get("teacher") for r in runs.store.list(kind="train", limit=1)] == [
        None
    ]


@pytest.fixture
def published(opened, tmp_path: Path) -> tuple[Path, Path]:
    """An architecture's file and its weights, as an import leaves them anywhere."""
    design, weights = tmp_path / "published.yaml", tmp_path / "published.safetensors"
    design.write_text(TEXT)
    shutil.copy(run_folder(opened.run.id) / "weights.safetensors", weights)
    return design, weights


def test_imported_weights_stand_beside_finished_runs_and_teach(opened, runs, published) -> None:
    design, weights = published
    note(design, weights)
    opened.at.run()
    (box,) = [box for box in opened.at.selectbox if box.label == "Teacher"]
    label = "lstm-attention-mini, imported (published.safetensors)"
    assert box.options == ["nobody", f"the old one ({opened.run.id})", label]
    opened.give(box, opened.run.id)
    choose(opened, "Teacher", str(weights))
    who = {"architecture": str(design), "weights": str(weights)}
    assert {k: v for k, v in teacher(opened).items() if k in ("run", *who)} == who
    (room,) = [n for n in opened.at.number_input if n.label.startswith("Room to keep")]
    opened.give(room, 8)
    (hidden,) = [toggle for toggle in opened.at.toggle if toggle.label == "Hidden states"]
    opened.give(hidden, True)
    opened.until(lambda at: not opened.button("Start training").disabled)
    opened.press("Start training")
    assert not opened.at.error, [error.value for error in opened.at.error]
    (run,) = [run for run in runs.store.list(kind="train") if run.spec["training"].get("teacher")]
    found = run.spec["training"]["teacher"]
    assert (found["run"], found["architecture"], found["weights"]) == (None, *who.values())
    assert found["cache_mib"] == 8 and found["layers"][0]["teacher"] == "lstm"
    weights.unlink()
    assert imported() == [], "what is gone is not offered"


def test_a_file_of_weights_is_named_where_files_may_be_named(
    opened, published, monkeypatch: pytest.MonkeyPatch
) -> None:
    design, weights = published
    monkeypatch.setattr(teachers, "paths_allowed", lambda: False)
    opened.at.run()
    assert not [field for field in opened.at.text_input if field.label == "Weights"]
    assert "hybridlab import hf FOLDER" in opened.words()
    monkeypatch.setattr(teachers, "paths_allowed", lambda: True)
    opened.at.run()

    def name(label: str, place: Path) -> None:
        opened.give(next(f for f in opened.at.text_input if f.label == label), str(place))

    name("Architecture", design)
    name("Weights", weights.with_name("none.safetensors"))
    opened.press("Offer them as a teacher")
    assert any("there is no such file" in error.value for error in opened.at.error)
    name("Weights", weights)
    opened.press("Offer them as a teacher")
    assert teacher(opened)["weights"] == str(weights) and len(imported()) == 1


COSTS = {"weight_bytes": 4e6, "flops_per_sample": 2e9, "step_ms": 30.0}
TOLD = {
    "metric": "test_accuracy",
    "higher_is_better": True,
    "kept": 0.9,
    "saved": {"flops_per_sample": 0.75, "weight_bytes": 0.5, "step_ms": -0.1},
    "teacher": {"metrics": {"test_accuracy": 1.0}, **COSTS},
    "student": {"metrics": {"test_accuracy": 0.9}, **COSTS},
}


def student(runs, training: dict[str, Any], **told: Any) -> Run:
    run = runs.running("the student", text=TEXT, **training)
    result = {
        "metrics": {"test_accuracy": 0.9},
        "steps": 10,
        "seconds": 1.0,
        "stop_reason": "steps",
    }
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={**result, **told})
    return runs.store.get(run.id)


def test_a_students_run_says_what_it_kept_and_offers_itself_alone(visitor, runs) -> None:
    run = student(runs, {"teacher": {"run": "x"}}, distillation=TOLD)
    at = visitor.open("2_Train", run=run.id)
    shown = {m.label: m.value for m in at.metric}
    assert shown["Quality kept"] == "90.0%"
    assert shown["FLOPs saved, predicted"] == "75%"
    assert shown["Time saved, predicted"] == "-10%", "what costs more is said too"
    visitor.press("Train the student alone")
    twin = runs.store.list(kind="train", limit=1)[0]
    assert twin.id != run.id and twin.spec["training"]["teacher"] is None


def test_beside_the_student_alone_the_difference_is_told(visitor, runs) -> None:
    run = student(runs, {"teacher": {"run": "x"}}, distillation=TOLD)
    twin = student(runs, {"teacher": None}, metrics={"test_accuracy": 0.95})
    visitor.open("2_Train", run=run.id)
    assert "0.05 worse than alone at equal steps" in visitor.words()
    visitor.press("Open the student alone")
    assert visitor.at.query_params["run"] in (twin.id, [twin.id])


def test_how_the_student_differs_from_its_teacher_is_drawn() -> None:
    from hybridlab.ui.train.panels import panels

    assert not [p for p in panels(None, ["loss"]) if "teacher" in p.title]
    (panel,) = [
        p for p in panels(None, ["distill_hidden", "distill_hard", "loss"]) if "teacher" in p.title
    ]
    assert panel.metrics == ("distill_hidden",) and panel.title.endswith("hidden states (share)")


def test_the_teachers_forward_and_weights_are_foretold(opened) -> None:
    def shown(label: str) -> str:
        opened.until(lambda at: not opened.button("Start training").disabled)
        return {m.label: m.value for m in opened.at.metric}[label]

    opened.until(lambda at: any(m.label.startswith("Memory") for m in at.metric))
    before = shown("Memory, predicted")
    choose(opened, "Teacher", opened.run.id)
    opened.until(lambda at: shown("Memory, predicted") != before)
