"""The energy of a step: what counters say over a window of steps, shared out by time, and a reason where none is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridlab.hardware.meters.energy import Counter, EnergyAccount
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.profiling.gradients import gradient_norms
from hybridlab.profiling.session import measure
from hybridlab.profiling.step_energy import step_energy
from hybridlab.profiling.work_tables import component_table
from hybridlab.runs.energy_words import energy_words
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from hybridlab.workflows.profile import profile_module


class World:
    """A machine that idles at 10 W and takes 2 J more for each step of a tenth of a second."""

    def __init__(self) -> None:
        self.now, self.joules = 0.0, 5.0

    def account(self) -> EnergyAccount:
        counter = Counter("meter", "everything", lambda: self.joules)
        return EnergyAccount([counter], clock=lambda: self.now)

    def rest(self, seconds: float) -> None:
        self.now += seconds
        self.joules += 10 * seconds

    def step(self) -> None:
        self.rest(0.1)
        self.joules += 2


def test_a_step_takes_what_counters_moved_less_idle_power() -> None:
    world = World()
    found = step_energy(
        world.step, world.account(), seconds=3, clock=lambda: world.now, sleep=world.rest
    )
    assert found.steps == pytest.approx(30, abs=1)
    assert found.joules == pytest.approx(3.0)
    assert found.net_joules == found.shared_joules == pytest.approx(2.0)
    told = found.as_dict()
    assert told["joules"] == pytest.approx(3.0 * found.steps)
    assert told["sources"] == [
        {"source": "meter", "covers": "everything", "idle_w": pytest.approx(10.0)}
    ]
    words = energy_words(told)
    assert "measured by meter (everything), 3 J a step" in words and "10 W" in words


def test_without_a_counter_no_step_is_run_and_nothing_is_said_to_be_0() -> None:
    account = EnergyAccount([], [NotMeasured("energy of the processor", "there is no counter")])

    def never(*given: object) -> None:
        raise AssertionError

    found = step_energy(never, account, sleep=never)
    told = found.as_dict()
    assert (told["joules"], told["joules_per_step"], found.shared_joules) == (None, None, None)
    assert energy_words(told) == "not measured: there is no counter"


def test_a_counter_that_goes_meanwhile_leaves_a_reason_and_no_figure() -> None:
    world = World()
    account = world.account()

    def step() -> None:
        world.step()
        account._counters.clear()

    found = step_energy(step, account, seconds=0, sleep=world.rest)
    assert found.joules is None and found.shared_joules is None


def test_components_share_the_joules_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter(range(10**9))
    account = EnergyAccount([Counter("meter", "everything", lambda: float(next(counted)))])
    monkeypatch.setattr("hybridlab.profiling.session.energy_account", lambda device: account)
    monkeypatch.setattr(
        "hybridlab.profiling.session.step_energy",
        lambda once, given: step_energy(
            once, given, seconds=0, idle_seconds=0, sleep=lambda s: None
        ),
    )
    found = profile_module(
        nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 4)), (torch.ones(4, 8),), steps=2
    )
    assert found.energy is not None and found.energy.shared_joules is not None
    for item in found.components:
        assert item.joules == pytest.approx(item.share * found.energy.shared_joules)
    shares = sum(item.joules or 0.0 for item in found.components)
    assert shares == pytest.approx(found.attributed * found.energy.shared_joules)
    table = component_table(found)
    assert table["joules"].to_pylist() == [item.joules for item in found.components]
    assert found.as_dict()["energy"]["steps"] == 1


def test_gradients_are_those_of_each_components_own_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 2)))
    inputs = torch.randn(5, 4)
    found = gradient_norms(TrainingStep(model, (inputs,), default_loss, None))
    default_loss(model(inputs)).backward()
    first, inner = model[0], model[2][0]
    assert set(found) == {"0", "2.0"}, "the innermost has them, not who holds it"
    for path, part in (("0", first), ("2.0", inner)):
        grads = torch.cat([weight.grad.flatten() for weight in part.parameters()])
        assert found[path] == pytest.approx(float(grads.norm()), rel=1e-5)


def test_what_is_not_trained_has_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    step = TrainingStep(model, (torch.ones(2, 4),), default_loss, default_optimiser(model))
    found = measure(step, steps=1)
    assert set(found.grad_norms) == {"1"}
    assert gradient_norms(TrainingStep(model, (torch.ones(2, 4),), None, None)) == {}
    assert found.energy.as_dict().keys() >= {"joules", "not_measured"}
