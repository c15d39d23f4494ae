"""Turns: enough of them to tell a difference from noise, and what is left on a model where one fails."""

from __future__ import annotations

import pytest
import torch

from hybridlab.planning import turns
from hybridlab.profiling.medians import median
from hybridlab.trace.step import TrainingStep


class Shift:
    """Adds to a bias, and counts."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self.layer, self.balance = layer, 0

    def on(self) -> None:
        self.balance += 1
        self.layer.bias.data += 1

    def off(self) -> None:
        self.balance -= 1
        self.layer.bias.data -= 1


def step_of() -> tuple[TrainingStep, Shift]:
    layer = torch.nn.Linear(2, 2)
    return TrainingStep(layer, (torch.ones(1, 2),), loss=None), Shift(layer)


def test_there_are_never_too_few_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one turn, or three, the interval is no wider than luck."""
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)
    step, shift = step_of()
    for rounds, made in ((1, 7), (7, 7), (30, 7)):
        times = turns.in_turns(step, [shift], rounds)
        assert [len(one) for one in times] == [made, made]
    assert median(times[0]).confidence > 0.95


def test_a_turn_that_fails_leaves_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    step, shift = step_of()
    runs = iter(range(100))

    def run_ms(step: TrainingStep) -> float:
        if next(runs) == 6:
            raise RuntimeError("cancelled")
        return 1.0

    monkeypatch.setattr(turns, "run_ms", run_ms)
    with pytest.raises(RuntimeError, match="cancelled"):
        turns.in_turns(step, [shift, shift], 9)
    assert shift.balance == 0


def test_each_has_every_place_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    step, shift = step_of()
    ran: list[int] = []
    monkeypatch.setattr(turns, "run_ms", lambda step: ran.append(shift.balance) or 1.0)
    turns.in_turns(step, [shift], 8)
    rounds = [ran[at : at + 4] for at in range(0, len(ran), 4)]  # each runs twice, and counts once
    assert rounds == [[0, 0, 1, 1], [1, 1, 0, 0]] * 4


@pytest.mark.parametrize(
    ("plain", "other", "wanted"),
    [
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([1.0, float("inf")], [1.0, float("inf")], 0.0),
        ([1.0, 2.0], [1.0, float("nan")], float("inf")),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([], [], 0.0),
    ],
)
def test_gaps_are_against_the_largest_value(
    plain: list[float], other: list[float], wanted: float
) -> None:
    found = turns.gap(torch.tensor(plain), torch.tensor(other))
    assert found == wanted


def test_a_difference_is_seen_and_taken_off_again() -> None:
    step, shift = step_of()
    with torch.no_grad():
        before = step.model(*step.inputs).clone()
    assert turns.difference(step, shift) > 0.1
    with torch.no_grad():
        assert torch.allclose(step.model(*step.inputs), before)
