"""Stages: when each ends, what it changes, and that a training broken off in any of them ends with the same bits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.model import build
from hybridlab.errors import DeviceError
from hybridlab.tasks.base import Task
from hybridlab.training import memory
from hybridlab.training.checkpoint import latest
from hybridlab.training.result import BEST, CHECKPOINTS, WEIGHTS
from hybridlab.training.weights import load_weights, read_tensors
from tests.training.staged import EASY, GROUPS, WAYS, borders_in, hybrid, staged, trained


@pytest.mark.parametrize("way", sorted(WAYS))
def test_killed_in_the_middle_of_every_stage_and_resumed_bit_by_bit(
    way: str, tmp_path: Path, mqar: Task
) -> None:
    spec = staged(WAYS[way])
    wanted, points, _ = trained(mqar, spec, tmp_path / "whole")
    borders = borders_in(points)
    assert [place for _, place in borders] == [1.0, 2.0], "both borders were passed"
    began = [0, *(step for step, _ in borders), spec.steps]
    kills = [(low + high + 1) // 2 for low, high in itertools.pairwise(began)]
    for kill in kills:
        torch.manual_seed(kill)
        trained(mqar, spec, tmp_path / "broken", die_after=kill, resume=True)
    restored: list[int] = []
    found, late, _ = trained(
        mqar, spec, tmp_path / "broken", resume=True, on_restored=restored.append
    )
    assert wanted is not None and found is not None
    assert restored == [(kills[-1] - 1) // 3 * 3]
    assert found.weights_sha256 == wanted.weights_sha256
    assert (found.metrics, found.best, found.steps) == (wanted.metrics, wanted.best, wanted.steps)
    assert late == [point for point in points if point[0] > restored[0]]


@pytest.mark.parametrize("how", sorted(GROUPS))
def test_growth_resumes_with_every_optimiser(how: str, tmp_path: Path, mqar: Task) -> None:
    spec = staged(WAYS["growth"], groups=GROUPS[how], checkpoint_every=4)
    wanted, _, _ = trained(mqar, spec, tmp_path / "whole")
    for kill in (5, 9, 13):  # just behind checkpoints that were written at the borders
        trained(mqar, spec, tmp_path / "broken", die_after=kill, resume=True)
    found, _, _ = trained(mqar, spec, tmp_path / "broken", resume=True)
    assert wanted is not None and found is not None
    assert found.weights_sha256 == wanted.weights_sha256


def test_checkpoints_say_their_stage(tmp_path: Path, mqar: Task) -> None:
    trained(mqar, staged(WAYS["growth"]), tmp_path, die_after=8)
    found = latest(tmp_path / CHECKPOINTS)
    assert found is not None and found.step == 6
    assert found.content["curriculum"]["place"] == 1
    assert found.content["curriculum"]["began"] == [0, 4]


def test_without_stages_all_is_as_before(tmp_path: Path, mqar: Task) -> None:
    plain, _, _ = trained(mqar, staged([]), tmp_path / "a")
    one, points, _ = trained(mqar, staged([{"name": "only"}]), tmp_path / "b")
    assert plain is not None and one is not None
    assert one.weights_sha256 == plain.weights_sha256 and not borders_in(points)


def test_final_and_best_weights_are_of_the_last_stageshybrid(tmp_path: Path, mqar: Task) -> None:
    result, _, model = trained(mqar, staged(WAYS["growth"]), tmp_path)
    assert result is not None and result.best["step"] > 8, "earlier models are never the best"
    assert len(model.root.get_submodule("stage").order) == 4
    fresh = build(model.architecture, mqar.input_type(), seed=5)
    for name in (WEIGHTS, BEST):
        load_weights(fresh, read_tensors(tmp_path / name), tmp_path / name)


def test_the_task_gets_harder_and_scores_are_those_of_the_runs_own(
    tmp_path: Path, mqar: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    scored: list[int] = []
    cls = type(mqar)
    real, judged = cls.train_batch, cls.evaluation

    def seen(self: Any, step: int, batch: int, seed: int) -> Any:
        found = real(self, step, batch, seed)
        if batch == 4:  # not those of a look at the memory
            lengths.append(found.inputs.shape[1])
        return found

    def judge(self: Any, split: str) -> Any:
        scored.append(self.length)
        return judged(self, split)

    monkeypatch.setattr(cls, "train_batch", seen)
    monkeypatch.setattr(cls, "evaluation", judge)
    trained(mqar, staged(WAYS["task"]), tmp_path)
    assert lengths == [8] * 4 + [16] * 10
    assert set(scored) == {16}


def test_moves_on_by_metric_of_the_stage(tmp_path: Path, mqar: Task) -> None:
    stages = [
        {"name": "a", "until": {"steps": 11, "metric": 0.0, "metric_of": "stage"}, **_easy()},
        {"name": "b"},
    ]
    _, points, _ = trained(mqar, staged(stages, eval_every=3), tmp_path)
    assert borders_in(points) == [(3, 1.0)], "at the first validation"
    assert [step for step, name, _ in points if name == "stage_val_accuracy"] == [3]


def test_moves_on_by_competence(tmp_path: Path, mqar: Task) -> None:
    def borders(until: dict[str, Any]) -> list[tuple[int, float]]:
        stages = [{"name": "a", "until": {"steps": 10, "window": 4, **until}}, {"name": "b"}]
        return borders_in(trained(mqar, staged(stages), tmp_path / str(until))[1])

    assert borders({"train_loss": 50.0}) == [(4, 1.0)], "once the window is full"
    assert borders({"train_accuracy": 0.0}) == [(4, 1.0)]
    assert borders({"train_loss": 50.0, "train_accuracy": 1.0}) == [(10, 1.0)], "both must hold"


def test_training_accuracy_is_that_of_the_batches(tmp_path: Path, mqar: Task) -> None:
    """The average over the first window is the plain mean of the batches' own accuracies."""
    stages = [
        {"name": "a", "until": {"steps": 10, "window": 50, "train_accuracy": 1.0}},
        {"name": "b"},
    ]
    spec = staged(stages, learning_rate=1e-12, accumulation=2)
    _, points, _ = trained(mqar, spec, tmp_path)
    told = {step: value for step, name, value in points if name == "stage_train_accuracy"}
    model, right, answers = hybrid(mqar).train(), [], []
    for step in range(4):
        batch = mqar.train_batch(step, 4, 0)
        right.append(float(mqar.score(model(batch.inputs), batch)))
        answers.append(float(batch.mask.sum()))
    shares = [one / other for one, other in zip(right, answers, strict=True)]
    assert told[4] == pytest.approx(sum(shares) / 4, abs=1e-6)


def _easy() -> dict[str, Any]:
    return {"task_params": {"pairs": 1, "length": 8}}


def test_the_memory_of_the_largest_stage_is_foreseen(
    tmp_path: Path, mqar: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real = memory.bytes_per_sample

    def noted(model: Any, what: Task, *rest: Any) -> float:
        seen.append((sum(p.numel() for p in model.parameters()), what.length))
        return real(model, what, *rest)

    monkeypatch.setattr(memory, "bytes_per_sample", noted)
    stages = [EASY, {"name": "b", "until": 2, "grow": {"stage": 3}}, {"name": "c"}]
    *_, model = trained(mqar, staged(stages), tmp_path)
    largest = sum(p.numel() for p in model.parameters())
    assert seen == [(largest, 16), (largest, 8)]
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(DeviceError, match="do not fit"):
        trained(mqar, staged(stages), tmp_path / "b")


def test_targets_and_patience_count_in_the_last_stage_alone(tmp_path: Path, mqar: Task) -> None:
    result, points, _ = trained(mqar, staged(WAYS["growth"], target=0.0), tmp_path)
    assert result is not None and (result.steps, result.stop_reason) == (10, "target")
    assert [step for step, _ in borders_in(points)] == [4, 8]
