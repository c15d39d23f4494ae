"""What a teacher says of samples that come again: asked once, kept within bounds, never a difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task
from hybridlab.training import teacher_cache
from hybridlab.training.distillation import Distillation
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from tests.training.conftest import Finished, Tiny

Settings = Callable[..., TrainSpec]
ATTENTION = ("use: attention, heads: 2", "use: attention, heads: 2")
SSM = ("use: mamba2, heads: 2, state: 4",)


@pytest.fixture
def digits() -> Task:
    return task("digits_sequence")


def test_what_the_teacher_says_of_fixed_samples_is_kept_and_makes_no_difference(
    tiny: Tiny,
    settings: Settings,
    finished: Finished,
    digits: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = finished(digits, *ATTENTION)
    found, asked = [], []
    for place, cache_mib in enumerate((64, 0)):
        spec = settings(
            task=digits.name,
            task_params={},
            teacher={"run": run, "hidden": {}, "cache_mib": cache_mib},
        )
        spec = spec.model_copy(update={"batch": 64, "accumulation": 2})
        student = tiny(digits, *SSM)
        objective = Distillation(student, digits, spec, numerics(spec), tmp_path / str(place))
        calls: list[Any] = []

        def counted(*given: Any, ask: Any = objective._ask, calls: list[Any] = calls) -> Any:
            calls.append(given)
            return ask(*given)

        monkeypatch.setattr(objective, "_ask", counted)
        if objective._cache is not None:
            monkeypatch.setattr(objective._cache, "_ask", counted)
        for step in range(3):
            student.zero_grad()
            objective.add_gradients(digits.train_batch(step, 64, 0), 2)
        found.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
        asked.append(len(calls))
    for with_cache, without in zip(*found, strict=True):
        torch.testing.assert_close(with_cache, without, atol=1e-5, rtol=1e-4)
    fixed = digits.fixed_inputs()
    assert fixed is not None
    known = {row.numpy().tobytes(): place // 32 for place, row in enumerate(fixed)}
    seen = [row for step in range(3) for row in digits.train_batch(step, 64, 0).inputs]
    blocks = {known[row.numpy().tobytes()] for row in seen}
    assert asked == [len(blocks | {0}), 6], "each block once; or every part of every step"
    files = list((tmp_path / "0" / teacher_cache.FOLDER).rglob("*.safetensors"))
    assert len(files) == asked[0]
    assert not (tmp_path / "1" / teacher_cache.FOLDER).exists()


def test_a_cache_that_would_not_hold_all_keeps_nothing(
    tiny: Tiny, settings: Settings, finished: Finished, digits: Task, tmp_path: Path
) -> None:
    spec = settings(
        task=digits.name,
        task_params={},
        teacher={"run": finished(digits, *ATTENTION), "hidden": {}, "cache_mib": 1},
    )
    objective = Distillation(tiny(digits, *SSM), digits, spec, numerics(spec), tmp_path)
    objective.add_gradients(digits.train_batch(0, 6, 0))
    assert not list((tmp_path / teacher_cache.FOLDER).rglob("*.safetensors"))
    assert objective._cache is not None and not objective._cache._kept


@pytest.mark.parametrize(
    ("name", "params"),
    [("digits_sequence", {"augment": True}), ("parity", {}), ("python_bytes", {"length": 16})],
)
def test_samples_that_hardly_come_again_are_not_kept(name: str, params: dict[str, Any]) -> None:
    assert task(name, **params).fixed_inputs() is None


def test_fixed_samples_are_those_of_the_batches(digits: Task) -> None:
    for what in (digits, task("digits_image")):
        fixed = what.fixed_inputs()
        assert fixed is not None
        known = {row.numpy().tobytes() for row in fixed}
        assert all(row.numpy().tobytes() in known for row in what.train_batch(7, 16, 3).inputs)
