"""What is measured faster is kept, nothing else; clocks are replaced, so that no test depends on timing."""

from __future__ import annotations

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.planning import turns
from hybridlab.planning.fusion.apply import Fused
from hybridlab.planning.fusion.maps import FusedLinear
from hybridlab.planning.fusion.measure import choose_fusion
from hybridlab.trace.step import TrainingStep, default_optimiser
from tests.planning.fusion.test_fusion import PARALLEL


def step_of(*, training: bool) -> TrainingStep:
    model = build(loads(PARALLEL), seed=0)
    x = torch.randint(32, (2, 12), generator=torch.Generator().manual_seed(0))
    if not training:
        return TrainingStep(model.eval(), (x,), loss=None)
    return TrainingStep(model, (x,), optimiser=default_optimiser(model))


def clocks(monkeypatch: pytest.MonkeyPatch, fused_ms: float) -> None:
    """Let a step take 1 ms, more by a little each time, and another time where anything is fused."""
    drift = iter(range(10**6))

    def run_ms(step: TrainingStep) -> float:
        norms = any("forward" in one.__dict__ for one in step.model.modules())
        fused = norms or any(isinstance(one, FusedLinear) for one in step.model.modules())
        fused = fused or bool(step.model._forward_pre_hooks)
        return (fused_ms if fused else 1.0) + 1e-6 * next(drift)

    monkeypatch.setattr(turns, "run_ms", run_ms)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_faster_is_kept_and_counted(
    monkeypatch: pytest.MonkeyPatch, *, training: bool
) -> None:
    clocks(monkeypatch, 0.8)
    step = step_of(training=training)
    parts: list[tuple[int, int]] = []
    found = choose_fusion(step, rounds=7, on_part=lambda *at: parts.append(at))
    assert found.applied and found.why == "is faster"
    assert all(one.kept for one in found.judged)
    assert found.ratio.value == pytest.approx(0.8, rel=0.01)
    assert found.fused.operators < found.plain.operators
    assert 0 < found.error <= found.tolerance == 1e-4
    assert parts == [(at, 4) for at in range(5)]
    assert found.fusion.training is training
    assert not any(isinstance(one, FusedLinear) for one in step.model.modules())
    Fused(step.model, found.fusion).on()  # type: ignore[arg-type]
    plain = found.as_dict()
    assert plain["applied"] and plain["fusion"]["products"]


def test_what_is_slower_is_never_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, 1.2)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert not found.applied and found.why == "nothing that can be fused is measured faster"
    assert found.judged and not any(one.kept for one in found.judged)
    assert {one.why for one in found.judged} == {"is not measured faster"}
    assert found.fused == found.plain


def test_what_is_no_faster_together_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turns(step: object, variants: list[Fused], rounds: int) -> list[list[float]]:
        alone = len(variants) > 1
        return [[1.0] * rounds, *([[0.9 if alone else 1.0] * rounds] * len(variants))]

    monkeypatch.setattr(turns, "in_turns", in_turns)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert not found.applied and "not measured faster together" in found.why
    assert not any(one.kept for one in found.judged)


def sets(
    monkeypatch: pytest.MonkeyPatch, alone: list[list[float]], some: list[float], last: float
) -> None:
    """Let candidates alone take these times, the sets of them these, and what is kept the last."""
    asked = iter(range(9))

    def in_turns(step: object, variants: list[Fused], rounds: int) -> list[list[float]]:
        which = next(asked)
        if which == 0:
            them = [(alone * 9)[at] for at in range(len(variants))]
        elif which == 1 and len(variants) == len(some):
            them = [[one] * rounds for one in some]
        else:
            assert which in (1, 2) and len(variants) == 1
            them = [[last] * rounds]
        return [[1.0] * rounds, *them]

    monkeypatch.setattr(turns, "in_turns", in_turns)


NOISY = [0.7, 0.8, 0.9, 0.99, 1.1, 1.2, 1.3]


def test_what_shows_only_together_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sets(monkeypatch, [NOISY, [1.01] * 7], [0.9, 0.8], 0.8)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert found.applied and len(found.judged) > 2
    assert all(one.kept for one in found.judged)  # all of them were faster than the likely ones
    assert {one.why for one in found.judged} == {"is faster with the others"}
    sets(monkeypatch, [NOISY, [1.01] * 7], [0.8, 0.9], 0.8)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert [one.kept for one in found.judged[:2]] == [True, False]
    assert found.judged[1].why == "is not measured faster"


def test_a_set_that_was_fast_by_luck_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sets(monkeypatch, [NOISY, [1.01] * 7], [0.9, 0.8], 1.0)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert not found.applied and not any(one.kept for one in found.judged)
    assert "not measured faster together" in found.why and found.fused == found.plain


def test_what_gives_something_else_is_not_even_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, 0.8)
    monkeypatch.setitem(turns.TOLERANCE, torch.float32, -1.0)
    found = choose_fusion(step_of(training=False), rounds=7)
    assert not found.applied and found.judged
    assert all("of the largest value" in one.why and one.ratio is None for one in found.judged)


def test_only_models_of_architectures_are_fused() -> None:
    with pytest.raises(RunError, match="not built from an architecture"):
        choose_fusion(TrainingStep(torch.nn.Linear(2, 2), (torch.ones(1, 2),), loss=None))
