"""Training on batches sorted by length: the same metrics, resumed to the bit, and refused where it has no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hybridlab.errors import SpecError
from hybridlab.tasks import listops, parity
from hybridlab.tasks.base import Task
from hybridlab.tasks.buckets import bucketed
from hybridlab.tasks.registry import task
from hybridlab.training.evaluation import evaluate
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.rate_finder import find_rate
from hybridlab.training.spec import TrainSpec, make
from hybridlab.workflows.as_trained import told
from hybridlab.workflows.buckets import not_sorted
from hybridlab.workflows.launch import prepared
from tests.tasks.conftest import WITH_SERIES
from tests.training.conftest import Tiny, after

DESIGN = "use: gru", "use: moe, experts: 2, routing: expert_choice"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score on a few samples."""
    for module in (listops, parity):
        monkeypatch.setattr(module, "_EVALUATION_BATCH", 30)
        monkeypatch.setattr(module, "_EVALUATION_BATCHES", {"val": 1, "test": 2})


@pytest.fixture
def varied() -> Task:
    return task("parity", length=12, longer=12, min_length=2)


def settings(**changes: Any) -> TrainSpec:
    base = {"task": "parity", "steps": 11, "batch": 6, "eval_every": 6, "checkpoint_every": 4}
    return make({**base, "warmup_steps": 2, "device": "cpu", "buckets": 3, **changes})


def test_resumed_bit_by_bit(tiny: Tiny, varied: Task, tmp_path: Path) -> None:
    spec = settings(accumulation=2)
    whole = train(tiny(varied, *DESIGN), varied, spec, folder=tmp_path / "whole")
    folder = tmp_path / "parts"
    for updates in (1, 6):
        cut = train(
            tiny(varied, *DESIGN), varied, spec, folder=folder, resume=True,
            **after(updates, "interrupt"),
        )  # fmt: skip
        assert cut.state == "interrupted"
    end = train(tiny(varied, *DESIGN), varied, spec, folder=folder, resume=True)
    assert end.weights_sha256 == whole.weights_sha256 and end.metrics == whole.metrics
    plain = train(tiny(varied, *DESIGN), varied, settings(buckets=0), folder=tmp_path / "plain")
    assert plain.weights_sha256 != whole.weights_sha256


@pytest.mark.parametrize("name", ["parity", "listops"])
def test_metrics_are_the_same_however_samples_are_sorted(tiny: Tiny, name: str) -> None:
    varied = {"parity": {"length": 12, "min_length": 2}, "listops": {"length": 23}}
    what = task(name, **varied[name])
    model = tiny(what, "use: attention, heads: 2")
    where = numerics(settings())
    found = [
        evaluate(model, bucketed(what, count, 8), what.test_splits, where, 50)
        for count in (1, 3, 8)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.skipif(not WITH_SERIES, reason="sktime's files are not installed")
def test_numbers_are_scored_the_same(tiny: Tiny) -> None:
    what = task("vowels_duration")
    model = tiny(what, "use: lstm")
    where = numerics(settings())
    one, other = (evaluate(model, bucketed(what, n, 8), ("test",), where, 64) for n in (1, 6))
    assert one == pytest.approx(other, rel=1e-5)


def test_what_is_learnt_is_the_same_step_without_sorting(tiny: Tiny, varied: Task) -> None:
    """One update on sorted parts is the update on the whole batch: only who stands beside whom has changed."""
    batch = bucketed(varied, 1, 4).train_batch(0, 8, 0)
    grads = []
    for parts in (1, 3):
        model = tiny(varied, "use: lstm")
        for piece in batch.split(parts):
            share = int(piece.mask.sum()) / int(batch.mask.sum())
            (varied.loss(model(*piece.given), piece) * share).backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6)


def test_rates_are_looked_for_on_sorted_batches(tiny: Tiny, varied: Task) -> None:
    lengths: set[int] = set()
    model = tiny(varied, "use: mlp")
    model.register_forward_pre_hook(lambda _, given: lengths.add(given[0].shape[1]))
    find_rate(model, varied, settings(), steps=20)
    assert len(lengths) > 2, "all batches are padded to the longest"
    (note,) = told(settings())
    assert "sorts its batches by length" in note and told(settings(buckets=0)) == ()


def test_nothing_to_sort_is_told_before_a_run() -> None:
    text = "name: x\nwidth: 8\nnodes:\n  - {use: lstm}\n"
    with pytest.raises(SpecError, match="all samples of parity are 32 long"):
        prepared(text, {"task": "parity", "buckets": 4})
    made = prepared(text, {"task": "parity", "task_params": {"min_length": 4}, "buckets": 4})
    assert made["training"]["buckets"] == 4


def test_what_does_not_go_with_buckets_is_refused(varied: Task, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="take out buckets, or plan"):
        settings(plan={"x": 1})
    stages = [{"name": "a", "until": 3, "task_params": {"length": 4}}, {"name": "b"}]
    with pytest.raises(SpecError, match="task_params of stages"):
        settings(stages=stages)
    assert settings(stages=[{"name": "a", "until": 3}, {"name": "b"}]).buckets == 3
    with pytest.raises(SpecError, match="built from an architecture"):
        train(nn.Linear(1, 1), varied, settings(), folder=tmp_path)


def test_why_samples_are_not_sorted_is_known_beforehand() -> None:
    varied = {"task": "parity", "task_params": {"length": 16, "min_length": 3}}
    assert not_sorted(varied) == "" and not_sorted({"task": "listops", "batch": 4}) == ""
    assert "all samples of parity are 16 long" in not_sorted(
        {**varied, "task_params": {"length": 16}}
    )
    several = {"of": [dict(varied), {**varied, "name": "again"}]}
    assert "take out buckets, or tasks" in not_sorted({**varied, "tasks": several})
    with pytest.raises(SpecError):
        not_sorted({**varied, "steps": "many"})
