"""The learning-rate range test: what it says of curves, what it finds on real batches, and that it leaves no trace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hybridlab.errors import RunError, SpecError
from hybridlab.tasks.base import Task
from hybridlab.training.rate_curve import RateCurve, rate_curve, smoothed
from hybridlab.training.rate_finder import find_rate
from hybridlab.training.spec import TrainSpec
from hybridlab.training.weights import weights_sha256
from tests.training.conftest import Noisy, Tiny

Settings = Callable[..., TrainSpec]
RATES = [10 ** (-6 + place / 14) for place in range(100)]


def curve(loss: Callable[[float], float], noise: float = 0.0) -> RateCurve:
    chance = random.Random(0)
    hard = [chance.gauss(0, noise) for _ in RATES]
    losses = [loss(rate) + more for rate, more in zip(RATES, hard, strict=True)]
    return rate_curve("", RATES, losses, [2.0 + more for more in hard], diverged=True)


def valley(rate: float) -> float:
    """Flat up to 1e-4, then down to 1 at 1e-2, then up."""
    place = math.log10(rate)
    if place < -4:
        return 2.0
    return 2.0 - (place + 4) / 2 if place < -2 else 1.0 + 4 * (place + 2)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_middle_of_the_fall_is_suggested_however_hard_the_batches(noise: float) -> None:
    found = curve(valley, noise)
    assert found.suggestion == pytest.approx(1e-3, rel=0.6)
    assert found.lowest == pytest.approx(1e-2, rel=0.6)
    assert found.steepest is not None and 1e-4 < found.steepest < 1e-2
    assert f"{found.suggestion:.2g} lies in the middle" in found.reason


def test_a_loss_that_does_not_fall_has_no_suggestion_and_one_that_falls_to_the_end_says_so() -> (
    None
):
    flat = curve(lambda rate: 2.0 + rate)
    assert flat.suggestion is None and "never fell" in flat.reason
    rates, losses = RATES, [2.0 - 0.01 * place for place in range(100)]
    open_ended = rate_curve("", rates, losses, [2.0] * 100, diverged=False)
    assert open_ended.suggestion is not None and "still falls" in open_ended.reason


def test_smoothing_does_not_lag() -> None:
    line = [float(place) for place in range(30)]
    assert smoothed(line) == pytest.approx(line)
    assert max(smoothed([0.0] * 10 + [1.0] + [0.0] * 10)) < 0.2


def test_a_real_test_suggests_a_rate_that_learns_and_leaves_everything_as_it_was(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    group = {"name": "mixers", "kind": "token_mixer", "rate": 0.5}
    still = {"name": "still", "use": "token_embedding", "frozen": True}
    spec = settings(groups=[group, still], batch=16)
    model = Noisy(tiny(parity, "use: min_gru", "use: mlp")).eval()
    torch.manual_seed(5)
    state, before = torch.get_rng_state(), weights_sha256(model)
    inner = model.inner

    def find(**more: object) -> RateCurve:
        return find_rate(inner, parity, spec, steps=24, **more)  # type: ignore[arg-type]

    told: list[tuple[int, int]] = []
    every = find(on_step=lambda done, steps: told.append((done, steps)))
    assert told[-1] == (48, 48) and [done for done, _ in told] == sorted(d for d, _ in told)
    mixers = find(group="mixers")
    assert torch.equal(state, torch.get_rng_state()) and weights_sha256(model) == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not inner.training
    assert every == find(), "equal seeds give equal tests"
    assert every.diverged
    assert every.losses[0] == every.control[0] == mixers.losses[0]
    assert len(set(every.control)) > 1, "the control sees the batches too"
    # without the mixers, all others go on learning at their own rate
    assert mixers.control != every.control[: len(mixers.control)]
    assert every.suggestion is not None and 1e-4 < every.suggestion < 1


def test_the_test_is_the_training_with_a_growing_rate(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    """Against updates made by hand: clipped, by AdamW, on the training's own batches."""
    spec = settings(weight_decay=0.0)
    found = find_rate(tiny(parity), parity, spec, steps=20, lowest=1e-4, highest=1e-1)
    model = tiny(parity)
    adamw = torch.optim.AdamW(model.parameters(), betas=spec.betas, weight_decay=0.0)
    losses = []
    for step, rate in enumerate(found.rates):
        adamw.param_groups[0]["lr"] = rate
        batch = parity.train_batch(step, spec.batch, spec.seed)
        loss = parity.loss(model(batch.inputs), batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
        adamw.step()
        adamw.zero_grad()
        losses.append(loss.item())
    assert found.rates[0] == 1e-4 and found.rates[-1] == pytest.approx(1e-1)
    assert found.losses == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"group": "nobody"}, "no such group.*mixers"),
        ({"group": "still"}, "is frozen"),
        ({"steps": 3}, "out of range"),
        ({"lowest": 0.1, "highest": 0.01}, "0.1 to 0.01"),
    ],
)
def test_what_cannot_be_tried_is_told(
    tiny: Tiny, settings: Settings, parity: Task, asked: dict[str, object], words: str
) -> None:
    spec = settings(
        groups=[
            {"name": "mixers", "kind": "token_mixer"},
            {"name": "still", "use": "token_embedding", "frozen": True},
        ]
    )
    with pytest.raises(SpecError, match=words):
        find_rate(tiny(parity), parity, spec, **asked)  # type: ignore[arg-type]


def test_a_loss_that_is_never_finite_is_told_and_an_interruption_leaves_no_trace(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    class Interrupted(Exception):  # noqa: N818
        pass

    def stop(done: int, steps: int) -> None:
        if done == 4:
            raise Interrupted

    model = tiny(parity)
    before = weights_sha256(model)
    with pytest.raises(Interrupted):
        find_rate(model, parity, settings(), lowest=0.1, on_step=stop)
    assert weights_sha256(model) == before
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(RunError, match="not finite at learning rate 1e-06 already"):
        find_rate(model, parity, settings())
