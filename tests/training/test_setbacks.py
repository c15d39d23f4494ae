"""Numbers that are not finite and losses that shoot up: named, and gone back from where that is allowed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import DeviceError, RunError
from hybridlab.tasks.base import Batch, Task
from hybridlab.training.loop import train
from hybridlab.training.non_finite import Place, locate
from hybridlab.training.objective import Objective
from hybridlab.training.precision import deterministic, numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.spikes import BEFORE, NOW, SpikeWatch
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]
NODES = ("id: a, use: lstm", "id: b, use: attention, heads: 2", "id: c, use: swiglu")


class Bad(torch.autograd.Function):
    """Passes its input on; its gradient is not a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.nan


def poisoned(model: GraphModel, path: str, what: str, when: Callable[[], bool]) -> None:
    """Spoil what a component gives, or the gradient that it hands back, whenever it is time."""
    body = dict(model.slots())[path].body
    forward = body.forward

    def spoilt(*inputs: Tensor) -> Tensor:
        if not when():
            return forward(*inputs)
        if what == "backward":
            return forward(*(Bad.apply(one) for one in inputs))
        return forward(*inputs) * math.inf

    body.forward = spoilt  # type: ignore[method-assign]


def batch_of(task: Task) -> Batch:
    return task.train_batch(0, 6, 0)


@pytest.mark.parametrize("path", ["a", "b", "c"])
@pytest.mark.parametrize("what", ["forward", "backward"])
def test_the_component_that_began_it_is_found(
    tiny: Tiny, settings: Settings, parity: Task, path: str, what: str
) -> None:
    model = tiny(parity, *NODES)
    objective = Objective(model, parity, numerics(settings()))
    assert locate(model, objective, batch_of(parity)) is None
    poisoned(model, path, what, lambda: True)
    assert locate(model, objective, batch_of(parity)) == Place(what, path)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_found_first(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    model = tiny(parity, *NODES)
    with torch.no_grad():
        next(dict(model.slots())["b"].body.parameters()).fill_(math.nan)
    found = locate(model, Objective(model, parity, numerics(settings())), batch_of(parity))
    assert found == Place("weights", "b")


def test_a_loss_that_is_not_finite_by_itself_is_told_apart(
    tiny: Tiny, settings: Settings, parity: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(parity, *NODES)
    whole = parity.loss
    monkeypatch.setattr(parity, "loss", lambda output, batch: whole(output, batch) * math.inf)
    found = locate(model, Objective(model, parity, numerics(settings())), batch_of(parity))
    assert found == Place("loss", "")


def test_the_error_names_the_component(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    model = tiny(parity, *NODES)
    steps: list[int] = [0]
    poisoned(model, "b", "forward", lambda: model.training and steps[0] >= 6)
    with pytest.raises(RunError) as caught:
        train(model, parity, settings(), folder=tmp_path, on_step=lambda s: steps.__setitem__(0, s))
    assert "first in what 'b' computes" in str(caught.value)
    assert "step 7" in str(caught.value)
    assert "checkpoint is of step 4" in str(caught.value)


class TooFast(nn.Module):
    """A model whose answer is not a number where its last update was larger than a limit."""

    def __init__(self, inner: nn.Module, limit: float) -> None:
        super().__init__()
        self.inner, self.limit = inner, limit
        self.register_buffer("before", self._flat())

    def _flat(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.inner.parameters()]).clone()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(x)
        if self.training:
            now = self._flat()
            moved = float((now - self.before).abs().max())
            self.before.copy_(now)
            if moved > self.limit:
                return output * math.nan
        return output


def test_it_goes_back_with_a_lower_rate_and_comes_through(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(
        steps=30, learning_rate=0.05, rollbacks=5, checkpoint_every=2, warmup_steps=20, clip_norm=0
    )
    model = TooFast(tiny(parity), 0.03)
    back: list[tuple[int, str]] = []
    told: list[tuple[int, dict[str, float]]] = []
    result = train(
        model,
        parity,
        spec,
        folder=tmp_path,
        on_metrics=lambda step, metrics: told.append((step, metrics)),
        on_rollback=lambda step, why: back.append((step, why)),
    )
    assert result.state == "done" and result.steps == 30
    assert 1 <= len(back) <= 5
    assert all(step % 2 == 0 and "not a number" in why for step, why in back)
    peak = max(metrics["learning_rate"] for _, metrics in told if "learning_rate" in metrics)
    last = [metrics["learning_rate"] for _, metrics in told if "learning_rate" in metrics][-1]
    assert peak > 0.025
    assert last <= 0.05 * 0.5 ** len(back)
    assert [metrics["rollbacks"] for _, metrics in told if "rollbacks" in metrics] == [
        float(number) for number in range(1, len(back) + 1)
    ]


def test_without_leave_it_ends(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(steps=30, learning_rate=0.05, checkpoint_every=2, warmup_steps=20, clip_norm=0)
    with pytest.raises(RunError, match="not a number"):
        train(TooFast(tiny(parity), 0.03), parity, spec, folder=tmp_path)


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9."""


def test_a_training_that_went_back_resumes_to_the_same_bits(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(
        steps=30, learning_rate=0.05, rollbacks=5, checkpoint_every=2, warmup_steps=20, clip_norm=0
    )
    wanted = train(TooFast(tiny(parity), 0.03), parity, spec, folder=tmp_path / "whole")
    kills = iter(sorted(random.Random(4).sample(range(3, 40), 6)))
    for kill in kills:
        made = iter(range(1, 1000))

        def die(done: int, made: Iterator[int] = made, kill: int = kill) -> None:
            if next(made) == kill:
                raise Killed

        try:
            found = train(
                TooFast(tiny(parity), 0.03),
                parity,
                spec,
                folder=tmp_path / "broken",
                on_step=die,
                resume=True,
            )
            break
        except Killed:
            continue
    else:
        found = train(
            TooFast(tiny(parity), 0.03), parity, spec, folder=tmp_path / "broken", resume=True
        )
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.metrics == wanted.metrics


def test_a_spike_is_seen_and_ordinary_noise_is_not() -> None:
    chance = random.Random(0)
    watch = SpikeWatch()
    for step in range(1, 400):  # a loss that falls from 3 to 0.05, each value off by up to a half
        loss = (0.05 + 2.95 * math.exp(-step / 60)) * chance.uniform(0.5, 1.5)
        assert watch.note(step, loss) is None
    again = SpikeWatch(watch.state())
    seen = None
    for step in range(400, 400 + NOW):
        seen = seen or again.note(step, 2.5)
    assert seen is not None
    assert seen.good == seen.step - NOW
    assert seen.now > 2 * seen.before
    assert again.state()[1:] == [], "it begins anew"


def test_the_watch_goes_on_from_its_state_as_if_unbroken() -> None:
    chance = random.Random(1)
    losses = [chance.uniform(1, 2) for _ in range(BEFORE + 20)] + [9.0] * NOW
    whole = SpikeWatch()
    found = [whole.note(step, loss) for step, loss in enumerate(losses, 1)]
    assert any(found)
    for cut in (0, 3, NOW, BEFORE, BEFORE + 22):
        first = SpikeWatch()
        parts = [first.note(step, loss) for step, loss in enumerate(losses[:cut], 1)]
        second = SpikeWatch(first.state())
        parts += [second.note(step, loss) for step, loss in enumerate(losses[cut:], cut + 1)]
        assert parts == found


class Climbing(nn.Module):
    """A model that is led astray for good from a step on, unless its rate is low."""

    def __init__(self, inner: nn.Module, limit: float) -> None:
        super().__init__()
        self.inner, self.limit = inner, limit
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(x)
        if self.training:
            self.count += 1
            if int(self.count) > 90 and self.limit_passed:
                return output * 200.0
        return output

    limit_passed = True


def test_a_loss_that_shot_up_is_gone_back_from_to_before_it_did(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(steps=120, rollbacks=1, checkpoint_every=7, keep_checkpoints=4, eval_every=200)
    model = Climbing(tiny(parity), 0.0)
    back: list[int] = []

    def went(step: int, why: str) -> None:
        assert "shot up" in why
        back.append(step)
        model.limit_passed = False  # what made it climb is over

    told: list[tuple[int, dict[str, float]]] = []
    result = train(
        model,
        parity,
        spec,
        folder=tmp_path,
        on_rollback=went,
        on_metrics=lambda step, metrics: told.append((step, metrics)),
    )
    assert result.steps == 120
    [step] = back
    spike = next(step for step, metrics in told if "loss_spike" in metrics)
    assert step % 7 == 0 and step <= spike - NOW
    assert sum(1 for at, metrics in told if at == step + 1 and "loss" in metrics) == 2


def test_a_spike_is_only_told_where_going_back_is_not_allowed(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    told: list[dict[str, float]] = []
    result = train(
        Climbing(tiny(parity), 0.0),
        parity,
        settings(steps=120, eval_every=200),
        folder=tmp_path,
        on_metrics=lambda step, metrics: told.append(metrics),
    )
    assert result.steps == 120
    assert next(one["loss_spike"] for one in told if "loss_spike" in one) > 2


def test_an_operation_without_a_deterministic_form_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = pytest.raises(DeviceError, match="deterministic: put_ has no deterministic form")
    with told, deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        raise RuntimeError(
            "put_ does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'"
        )
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_deterministic_training_gives_the_same_weights(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(deterministic=True)
    seen: list[bool] = []
    first = train(
        tiny(parity),
        parity,
        spec,
        folder=tmp_path / "a",
        on_step=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    second = train(tiny(parity), parity, spec, folder=tmp_path / "b")
    assert all(seen) and len(seen) == 12
    assert first.weights_sha256 == second.weights_sha256
