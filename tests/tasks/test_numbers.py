"""Tasks whose answer is a number: the loss and the error by hand, beside other tasks, and from a teacher."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.profiling.classes import input_classes
from hybridlab.tasks import base
from hybridlab.tasks.base import Batch
from hybridlab.tasks.data_card import data_card
from hybridlab.tasks.digits_asked import AskedDigits, AskedParams
from hybridlab.tasks.digits_data import SOURCE, digits
from hybridlab.tasks.numbers import Numbers
from hybridlab.tasks.registry import catalogue, fit, task
from hybridlab.tasks.several import Part, SeveralTasks
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.result import TrainResult
from hybridlab.training.teacher_losses import numbers_loss
from tests.tasks.conftest import WITH_SERIES

TEXT = "name: tiny\nwidth: 8\nnodes:\n  - {use: attention, heads: 2, causal: false}\n  - {use: swiglu}\n"
SHORT = {"steps": 30, "batch": 32, "learning_rate": 1e-2, "warmup_steps": 2, "eval_every": 15}


class Ink(Numbers, AskedDigits):
    """How dark an image is, in per cent."""

    Params = AskedParams
    unit: ClassVar[str] = "%"

    def answers(self, split: str) -> Tensor:
        return 50 * (digits(split)[0].mean((1, 2)) + 1)

    def _targets(self, split: str) -> Tensor:
        return self.answers(split)


@pytest.fixture
def ink(monkeypatch: pytest.MonkeyPatch) -> Ink:
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    register = base.task("digits_ink", title="Ink", summary="How dark?", source=SOURCE)
    return register(Ink)(AskedParams(form="image"))


def test_loss_and_error_are_those_of_the_numbers_that_are_asked_for(ink: Ink) -> None:
    (mean, deviation), batch = ink.scale(), ink.train_batch(0, 5, 0)
    known = ink.answers("train")
    assert mean == pytest.approx(float(known.mean()), rel=1e-5)
    assert batch.targets.dtype == torch.float32 and batch.mask.all()
    targets = batch.targets.clone()
    targets[3] = math.nan
    some = Batch(batch.inputs, targets)
    output = torch.randn(5, 1, requires_grad=True)
    rows = [0, 1, 2, 4]
    wanted = [(float(targets[r]) - mean) / deviation for r in rows]
    given = [float(output.detach()[r]) for r in rows]
    loss = ink.loss(output, some)
    by_hand = sum((a - b) ** 2 for a, b in zip(given, wanted, strict=True)) / 4
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert output.grad is not None and float(output.grad[3]) == 0.0
    errors = [
        abs(a * deviation + mean - float(targets[r])) for a, r in zip(given, rows, strict=True)
    ]
    assert float(ink.score(output.detach(), some)) == pytest.approx(sum(errors), rel=1e-5)
    assert int(some.mask.sum()) == 4
    assert ink.baselines()["training median"] <= ink.baselines()["training mean"] + 0.5


def test_its_card_says_numbers_with_their_unit_and_its_inputs_are_not_sorted_by_them(
    ink: Ink,
) -> None:
    card = data_card(ink)
    assert card.unit == "%" and card.metric == "test_mean_abs_error"
    value = float(ink.train_batch(0, 3, 0).targets[0])
    assert card.examples[0].answer == f"{value:.4g} %"
    assert not any(one.name.startswith("label") for one in input_classes(ink, samples=4))


def ran(settings: dict[str, Any], folder: Path) -> tuple[TrainResult, GraphModel, Any]:
    what, spec = prepare(settings)
    model = build(fit(loads(TEXT), what), what.input_type(), seed=0)
    told: dict[str, list[float]] = {}

    def note(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            told.setdefault(name, []).append(value)

    return train(model, what, spec, folder=folder, on_metrics=note), model, told


def test_it_is_learnt_and_the_best_is_the_least_error(
    ink: Ink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hybridlab.training.defaults.make_task", lambda *_, **__: ink)
    settings = {**SHORT, "task": "digits_ink", "device": "cpu", "steps": 60}
    result, _, told = ran(settings, tmp_path)
    error = result.metrics["test_mean_abs_error"]
    assert error < 0.7 * ink.baselines()["training median"]
    assert result.best["value"] == min(told["val_mean_abs_error"])


def test_beside_classes_each_is_scored_in_its_own_measure_and_no_mean_is_taken(ink: Ink) -> None:
    parts = [Part("digit", task("digits_image")), Part("ink", ink)]
    both = SeveralTasks(parts)
    assert both.main == "first" and both.metric == "test_accuracy"
    numbers = SeveralTasks([Part("ink", ink), Part("more", ink)])
    assert (numbers.main, numbers.unit) == ("mean", "%")
    other = Ink(AskedParams(form="image"))
    other.unit = "grams"  # type: ignore[misc]
    assert SeveralTasks([Part("ink", ink), Part("more", other)]).main == "first"


def test_a_teachers_numbers_are_learnt_by_their_difference() -> None:
    student, teacher = torch.randn(4, 1), torch.randn(4, 1)
    mask = torch.tensor([True, False, True, True])
    each = [float((student[r] - teacher[r]) ** 2) for r in (0, 2, 3)]
    assert float(numbers_loss(student, teacher, mask)) == pytest.approx(sum(each) / 3)
    assert float(numbers_loss(student, teacher, ~mask & mask)) == 0.0


@pytest.mark.skipif(not WITH_SERIES, reason="sktime's files are not installed")
def test_vowels_are_asked_for_speaker_class_and_duration_on_one_trunk(tmp_path: Path) -> None:
    entry = next(one for one in catalogue() if one["name"] == "vowels_duration")
    assert (entry["measure"], entry["unit"]) == ("mean_abs_error", "values")
    assert entry["higher_is_better"] is False and entry["output_shape"] == ["B", 1]
    of = [
        {"task": "time_series", "name": "speaker"},
        {"task": "vowels_length", "name": "length"},
        {"task": "vowels_duration", "name": "duration"},
    ]
    tasks = {"of": of, "sampling": "joint", "balancing": "pcgrad"}
    made = {**SHORT, "task": "time_series", "tasks": tasks, "device": "cpu"}
    result, _, told = ran(made, tmp_path)
    (mean,) = (x for name, x in entry["baselines"].items() if name == "training mean")
    assert 0 < result.metrics["test_mean_abs_error_duration"] < 1.5 * mean
    assert told["task_loss/duration"][-1] < told["task_loss/duration"][0]
    assert {"test_accuracy_speaker", "test_accuracy_length"} <= set(result.metrics)
    assert "test_accuracy_mean" not in result.metrics
    answers = task("vowels_duration").train_batch(0, 4, 0)
    series = answers.inputs.ne(0).any(-1)
    assert answers.targets.tolist() == [float(row.nonzero().max() + 1) for row in series]
