"""Outputs of frozen components are computed once for each sample, survive a kill, and make no difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.components.channel_mixers.swiglu import SwiGLU
from hybridlab.errors import SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task
from hybridlab.training import frozen_cache
from hybridlab.training.frozen_cache import FOLDER, FrozenCache
from hybridlab.training.loop import train
from hybridlab.training.result import TrainResult
from hybridlab.training.session import Session
from hybridlab.training.spec import TrainSpec
from hybridlab.workflows.launch import prepared
from tests.training.conftest import Tiny, after

Settings = Callable[..., TrainSpec]
NODES = ("use: mamba2, heads: 2, state: 4", "use: swiglu", "use: attention, heads: 2")
FROZEN = ({"name": "stays", "match": "pixel_series|mamba2|swiglu", "frozen": True},)
FORWARD = SwiGLU.forward
TEXT = "name: tiny\nwidth: 8\nnodes:\n" + "".join(f"  - {{{node}}}\n" for node in NODES)


@pytest.fixture
def digits() -> Task:
    return task("digits_sequence")


@pytest.fixture
def spec(settings: Settings) -> Callable[..., TrainSpec]:
    def made(**changes: Any) -> TrainSpec:
        base = {"task": "digits_sequence", "task_params": {}, "steps": 4, "batch": 64}
        base |= {"groups": FROZEN, "cache_frozen": 64, "checkpoint_every": 2, "eval_every": 4}
        return settings(**{**base, **changes})

    return made


def losses(
    model: GraphModel, what: Task, spec: TrainSpec, folder: Path, **more: Any
) -> tuple[TrainResult, dict[int, float]]:
    found: dict[int, float] = {}

    def noted(step: int, metrics: dict[str, float]) -> None:
        if "loss" in metrics:
            found[step] = metrics["loss"]

    folder.mkdir(exist_ok=True)
    return train(model, what, spec, folder=folder, on_metrics=noted, **more), found


def test_losses_and_weights_are_those_without_it(
    tiny: Tiny, spec: Callable[..., TrainSpec], digits: Task, tmp_path: Path
) -> None:
    results = []
    for cache_frozen in (64, 0):
        model = tiny(digits, *NODES)
        made = spec(cache_frozen=cache_frozen)
        result, found = losses(model, digits, made, tmp_path / str(cache_frozen))
        results.append((found, result.weights_sha256))
        fixed = digits.fixed_inputs()
        assert fixed is not None
        if cache_frozen:
            assert isinstance(model.running, FrozenCache)
            assert model.running.paths == ("pixel_series", "mamba2", "swiglu")
            assert model.running.computed == len(fixed)
            files = list((tmp_path / "64" / FOLDER).glob("*/*.safetensors"))
            assert len(files) == math.ceil(len(fixed) / 64)
    (with_cache, weights), (without, other) = results
    assert len(with_cache) == 4 and with_cache == without
    assert weights == other


def test_a_training_that_is_broken_off_goes_on_from_what_is_kept(
    tiny: Tiny, spec: Callable[..., TrainSpec], digits: Task, tmp_path: Path
) -> None:
    whole, every = losses(tiny(digits, *NODES), digits, spec(), tmp_path / "whole")
    losses(tiny(digits, *NODES), digits, spec(), tmp_path / "cut", **after(2, "interrupt"))
    files = sorted((tmp_path / "cut" / FOLDER).glob("*/*.safetensors"))
    files[0].write_bytes(b"torn")
    files[1].unlink()
    (files[0].parent / ".000002.safetensors.1.tmp").write_bytes(b"half")
    model = tiny(digits, *NODES)
    result, rest = losses(model, digits, spec(), tmp_path / "cut", resume=True)
    assert isinstance(model.running, FrozenCache)
    assert model.running.computed == 2 * 64, "two blocks were lost"
    assert result.weights_sha256 == whole.weights_sha256
    assert rest == {step: every[step] for step in (3, 4)}


def test_a_wish_to_stop_is_heard_while_outputs_are_computed(
    tiny: Tiny, spec: Callable[..., TrainSpec], digits: Task, tmp_path: Path
) -> None:
    model, heard = tiny(digits, *NODES), iter(["", "", "", "interrupt"])
    result, found = losses(model, digits, spec(), tmp_path / "cut", should_stop=lambda: next(heard))
    assert isinstance(model.running, FrozenCache)
    assert result.stop_reason == "interrupt" and not found
    assert 0 < model.running.computed < 1000
    again = tiny(digits, *NODES)
    result, found = losses(again, digits, spec(), tmp_path / "cut", resume=True)
    assert result.state == "done" and len(found) == 4
    assert isinstance(again.running, FrozenCache)
    assert again.running.computed + model.running.computed == digits.train_size


def test_other_weights_and_other_versions_are_another_cache(
    tiny: Tiny,
    spec: Callable[..., TrainSpec],
    digits: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    keys = set()
    for seed in (0, 1):
        model = tiny(digits, *NODES, seed=seed)
        Session(model, digits, spec(), folder, lambda *_: None, lambda: None)
        cache = model.running
        assert isinstance(cache, FrozenCache)
        keys.add(cache._now()._key)
    assert len(keys) == 2
    monkeypatch.setattr(frozen_cache, "VERSIONS", ("another", torch.__version__))
    cache._marks = []  # so that it looks anew
    assert cache._now()._key not in keys
    before = cache._now()
    with torch.no_grad():
        next(dict(model.slots())["swiglu"].parameters()).mul_(2)
    assert cache._now() is not before


def test_a_limit_that_is_too_small_keeps_nothing_and_says_so(
    tiny: Tiny,
    spec: Callable[..., TrainSpec],
    digits: Task,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = spec(steps=1, cache_frozen=1)
    _, found = losses(tiny(digits, *NODES), digits, made, tmp_path / "small")
    _, plain = losses(tiny(digits, *NODES), digits, spec(steps=1, cache_frozen=0), tmp_path / "no")
    assert found == plain
    assert "take more than cache_frozen" in caplog.text
    assert not list((tmp_path / "small" / FOLDER).glob("*/*"))


def test_what_does_not_stay_the_same_is_refused(
    tiny: Tiny,
    spec: Callable[..., TrainSpec],
    digits: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def session(made: TrainSpec, what: Task) -> None:
        Session(tiny(what, *NODES), what, made, tmp_path, lambda *_: None, lambda: None)

    moved = task("digits_sequence", augment=True)
    with pytest.raises(SpecError, match="made anew or changed"):
        session(spec(), moved)
    late = ({"name": "late", "use": "attention", "frozen": True},)
    with pytest.raises(SpecError, match="pixel_series learns"):
        session(spec(groups=late), digits)
    forward = SwiGLU.forward

    def dropped(self: SwiGLU, x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(forward(self, x), 0.5, self.training)

    monkeypatch.setattr(SwiGLU, "forward", dropped)
    model = tiny(digits, *NODES)
    Session(model, digits, spec(), tmp_path, lambda *_: None, lambda: None)
    assert isinstance(model.running, FrozenCache)
    assert model.running.paths == ("pixel_series", "mamba2"), "it ends before chance begins"


def by_the_batch(self: SwiGLU, x: Tensor) -> Tensor:
    y: Tensor = FORWARD(self, x)
    return y - y.mean((0, 1)) if self.training else y


def counting(self: SwiGLU, x: Tensor) -> Tensor:
    self.seen += 1.0
    return FORWARD(self, x)


@pytest.mark.parametrize("forward", [by_the_batch, counting])
def test_what_hangs_on_the_batch_or_keeps_count_is_not_kept(
    tiny: Tiny,
    spec: Callable[..., TrainSpec],
    digits: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forward: Callable[[SwiGLU, Tensor], Tensor],
) -> None:
    """As statistics of a batch do, and their running means."""
    monkeypatch.setattr(SwiGLU, "forward", forward)
    model = tiny(digits, *NODES)
    body = dict(model.slots())["swiglu"].body
    body.register_buffer("seen", torch.zeros(1))
    Session(model, digits, spec(), tmp_path, lambda *_: None, lambda: None)
    assert isinstance(model.running, FrozenCache)
    assert model.running.paths == ("pixel_series", "mamba2")
    assert float(body.seen) == 0.0


def test_the_settings_say_what_does_not_go_together(spec: Callable[..., TrainSpec]) -> None:
    with pytest.raises(SpecError, match="needs a group that is frozen"):
        spec(groups=())
    with pytest.raises(SpecError, match="take out cache_frozen, or stages"):
        spec(stages=({"name": "one"},))
    asked = {"task": "digits_sequence", "cache_frozen": 8, "device": "cpu"}
    assert prepared(TEXT, asked | {"groups": list(FROZEN)})["training"]["cache_frozen"] == 8
    late = [{"name": "late", "use": "attention", "frozen": True}]
    with pytest.raises(SpecError, match="pixel_series learns"):
        prepared(TEXT, asked | {"groups": late})
    with pytest.raises(SpecError, match="made anew"):
        prepared(TEXT, asked | {"groups": list(FROZEN), "task_params": {"augment": True}})
