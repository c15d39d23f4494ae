"""Finding who teaches: finished runs, files of weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.model import build
from hybridlab.errors import SpecError
from hybridlab.runs.home import run_folder
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training.defaults import task_of
from hybridlab.training.evaluation import evaluate
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.teacher import find_teacher, newest, settled
from hybridlab.training.teacher_spec import TeacherSpec
from hybridlab.training.weights import load_weights, read_tensors
from hybridlab.workflows.distill import outcome
from tests.training.conftest import Finished, Tiny

Settings = Callable[..., TrainSpec]
ATTENTION = ("use: attention, heads: 2",)


def _spec(settings: Settings, what: Task, **teacher: Any) -> TrainSpec:
    return settings(task=what.name, task_params=what.params.model_dump(), teacher=teacher)


@pytest.mark.parametrize(
    ("teacher", "path", "words"),
    [
        ({"run": "000000000000"}, "teacher.run", "no such run"),
        ({"run": "../../etc"}, "teacher.run", "not a run id"),
        ({"run": "latest:nobody"}, "teacher.run", "no run of 'nobody' on parity"),
        ({"architecture": "nothing", "weights": "x"}, "teacher.architecture", "no such arch"),
        ({"architecture": "lstm_mini", "weights": "/no/x"}, "teacher.weights", "no such file"),
        (
            {"run": "RUN", "hidden": {}, "layers": [{"teacher": "lstmm", "student": "a"}]},
            "teacher.layers[0].teacher",
            "did you mean 'lstm'",
        ),
        ({"run": "RUN", "matrices": {}}, "teacher.matrices", "lstm and lstm"),
        ({"run": "WIDE", "hidden": {}, "feed": "teacher"}, "teacher.layers[0]", "cannot read"),
        ({"run": "MQAR"}, "teacher.run", "answer"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(
    tiny: Tiny,
    settings: Settings,
    finished: Finished,
    parity: Task,
    tmp_path: Path,
    teacher: dict[str, Any],
    path: str,
    words: str,
) -> None:
    named = {
        "RUN": lambda: finished(parity),
        "WIDE": lambda: finished(parity, width=12),
        "MQAR": lambda: finished(task("mqar", pairs=2, length=8, vocab=16)),
    }
    run = named.get(str(teacher.get("run")))
    spec = _spec(settings, parity, **teacher | ({"run": run()} if run else {}))
    with pytest.raises(SpecError, match=words) as caught:
        train(tiny(parity), parity, spec, folder=tmp_path)
    assert caught.value.problems[0].path == path


def test_a_teacher_that_knows_fewer_tokens_is_refused(
    tiny: Tiny, settings: Settings, finished: Finished, tmp_path: Path
) -> None:
    few, many = (task("mqar", pairs=2, length=8, vocab=vocab) for vocab in (16, 32))
    run = finished(few, "use: lstm", "use: lm_head, vocab: 16")
    with pytest.raises(SpecError, match=r"answer|all tokens"):
        train(tiny(many), many, _spec(settings, many, run=run), folder=tmp_path)


def test_the_newest_finished_run_of_an_architecture_is_found(
    settings: Settings, finished: Finished, parity: Task
) -> None:
    first = finished(parity, name="my-net")
    second = finished(parity, name="my-net")
    finished(parity, name="other")
    finished(task("mqar", pairs=2, length=8, vocab=16), name="my-net")
    assert newest("my_net", "parity") == second
    run_folder(second).joinpath("weights.safetensors").unlink()
    assert newest("my-net", "parity") == first
    fast = settled(TeacherSpec(run="latest:my_net"), parity)
    assert fast.run == first


def test_weights_in_a_file_teach_too(
    tiny: Tiny, settings: Settings, finished: Finished, parity: Task, tmp_path: Path
) -> None:
    folder = run_folder(finished(parity, *ATTENTION))
    files = {
        "architecture": str(folder / "architecture.yaml"),
        "weights": str(folder / "weights.safetensors"),
    }
    by_file = train(
        tiny(parity), parity, _spec(settings, parity, **files), folder=tmp_path / "file"
    )
    by_run = train(
        tiny(parity), parity, _spec(settings, parity, run=folder.name), folder=tmp_path / "run"
    )
    assert by_file.weights_sha256 == by_run.weights_sha256
    wrong = {**files, "architecture": "lstm_mini"}
    with pytest.raises(SpecError, match="another architecture"):
        train(tiny(parity), parity, _spec(settings, parity, **wrong), folder=tmp_path / "x")


def test_a_run_on_several_tasks_teaches_its_first(
    tiny: Tiny, settings: Settings, finished: Finished, tmp_path: Path
) -> None:
    tasks = {"of": [{"task": "digits_sequence"}, {"task": "digits_parity"}], "sampling": "joint"}
    several = task_of(settings(task="digits_sequence", task_params={}, tasks=tasks))
    what = several.first
    run = finished(several, task=what.name, task_params={}, tasks=tasks)
    student, spec = tiny(what), _spec(settings, what, run=run, hidden={})
    told = train(student, what, spec, folder=tmp_path / "run")
    found = outcome(student, what, spec, told.metrics)
    weights = read_tensors(run_folder(run) / "weights.safetensors")
    own = build(
        fit(find_teacher(spec.teacher, what).architecture, several), what.input_type(), seed=1
    )
    load_weights(own, weights, tmp_path)
    own.leaving = False
    alone = evaluate(own.eval(), what, what.test_splits, numerics(spec), 64)
    assert found["teacher"]["metrics"] == pytest.approx(alone)
    assert found["saved"]["flops_per_sample"] != 0
