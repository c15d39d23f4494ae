"""What leaves memory comes back as it was: gradients are equal bit for bit, and peaks are what was promised."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.program import program
from hybridlab.errors import RunError
from hybridlab.hardware.ceilings import Bandwidth
from hybridlab.hardware.roofline import Roofline
from hybridlab.planning import shelf
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.offload import Offloading
from hybridlab.planning.planner import planner
from hybridlab.planning.recompute import Recomputing, apply
from hybridlab.planning.record import Budget, Plan
from hybridlab.planning.shelf import FileShelf, Speed
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from tests.planning.steps import NODES, equal, steps, text

pytestmark = pytest.mark.usefixtures("only_new_garbage")
SLOW = Roofline(1e8, (Bandwidth(1 << 40, 1e8),), 1e-5, "slow")


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk have one speed, whatever runs beside."""
    monkeypatch.setattr("hybridlab.planning.planner.shelf_speed", lambda dtype: Speed(5.0, 1e-3))


def away(model: GraphModel, places: set[int], dtype: torch.dtype | None = None) -> GraphModel:
    written = program(model)
    model.running = Recomputing(written, (), away=places, shelf=FileShelf(dtype=dtype), model=model)
    return model


@pytest.mark.parametrize("name", list(NODES))
def test_steps_are_equal_bit_for_bit(name: str) -> None:
    architecture = loads(text(NODES[name]))
    x = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    plain = build(architecture, seed=0)
    model: GraphModel = copy.deepcopy(plain)
    count = len(program(model).names)
    assert equal(steps(plain, x), steps(away(model, set(range(count))), x))


def test_runs_again_and_offloads_go_together_and_draw_the_same() -> None:
    architecture = loads(text("{use: mlp}, {use: swiglu}, {use: mlp}, {use: attention, heads: 2}"))

    def made() -> GraphModel:
        model = build(architecture, seed=0)
        for _, slot in model.slots():
            slot.body = nn.Sequential(slot.body, nn.Dropout(0.3))  # type: ignore[assignment]
            slot.body.aux_loss = slot.body.exit = lambda: None  # type: ignore[union-attr]
            slot.body.after_update = lambda: None  # type: ignore[union-attr]
        return model

    x = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    model = made()
    model.running = Recomputing(
        program(model), [(1, 2)], away={0, 3}, shelf=FileShelf(), model=model
    )
    assert equal(steps(made(), x), steps(model, x))


def test_a_smaller_type_is_near_but_not_equal() -> None:
    architecture = loads(text(NODES["chain"]))
    x = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    plain = steps(build(architecture, seed=0), x, 1)
    lossy = steps(away(build(architecture, seed=0), {0, 1, 2, 3}, torch.bfloat16), x, 1)
    assert torch.equal(plain[0], lossy[0]) and not equal(plain, lossy)
    for one, other in zip(plain, lossy, strict=True):
        assert torch.linalg.vector_norm(one - other) <= 0.02 * torch.linalg.vector_norm(one) + 1e-6


@pytest.mark.parametrize("name", ["chain", "skips", "experts", "recurrent"])
def test_peaks_are_those_of_the_profilers_memory_events(name: str) -> None:
    architecture = loads(text(NODES[name]))
    made = planner(architecture, batch=4, length=48, roofline=SLOW, offload="same")
    points = [plan for plan in made.points() if plan.offload]
    assert points
    for plan in (points[0], points[-1]):
        model = build(architecture, seed=0)
        x = torch.randn(4, 48, 32)
        step = TrainingStep(model, (x,), default_loss, default_optimiser(model))
        apply(model, plan)
        assert plan.predicted.peak_bytes == pytest.approx(measured_peak(step), rel=0.02)
        assert plan.predicted.peak_bytes == pytest.approx(made.stream(plan).peak_bytes, rel=0.02)


def test_with_a_third_choice_no_budget_costs_more() -> None:
    architecture = loads(text("{repeat: 3, nodes: [{use: mlp}, {use: swiglu}]}"))
    two = planner(architecture, batch=4, length=48, roofline=SLOW)
    three = planner(architecture, batch=4, length=48, roofline=SLOW, offload="same")
    for index in range(len(two.curve)):
        budget = Budget(peak_bytes=int(two.curve.peak_bytes[index]))
        assert three.best(budget).predicted.step_ms <= two.best(budget).predicted.step_ms
    assert len(two.points()[0].offload) == 0
    assert any(plan.offload for plan in three.points())
    told = three.trade_off()
    index = next(place for place, gone in enumerate(told.away) if gone)
    assert told.plan(index).offload and "out of memory" in told.plan(index).told


def test_bits_and_places_of_the_file_are_used_again(tmp_path: Path) -> None:
    kept = FileShelf(tmp_path)
    some = [torch.randn(1000), torch.arange(7), torch.tensor([True, False]), torch.empty(0)]
    for _ in range(3):
        numbers = [kept.put(one) for one in some]
        for one, number in zip(some, numbers, strict=True):
            assert torch.equal(kept.get(number), one) and kept.get(number).dtype is one.dtype
            kept.free(number)
    assert kept._bytes == 3 * shelf._PAGE
    assert not list(tmp_path.iterdir())


def test_views_complex_numbers_and_a_second_backward_come_back() -> None:
    x = torch.randn(3, 4, dtype=torch.complex64, requires_grad=True)

    def loss(given: torch.Tensor) -> torch.Tensor:
        return (given.conj().mT @ given[:, 1:]).imag.square().sum()

    (wanted,) = torch.autograd.grad(loss(x), x)
    with Offloading(FileShelf()).of_one(()):
        total = loss(x)
    for keep in (True, False):
        (found,) = torch.autograd.grad(total, x, retain_graph=keep)
        assert torch.equal(found, wanted)


def test_losses_one_after_the_other_may_ask_for_parts() -> None:
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)

    def outputs() -> list[torch.Tensor]:
        hidden = torch.sin(x @ weight)
        return [(hidden * hidden).sum(), (torch.cos(hidden) * x).sum()]

    kept = FileShelf()
    plain = outputs()
    with Offloading(kept).of_one(()):
        found = outputs()
    for _ in range(2):
        for one, other in zip(plain, found, strict=True):
            wanted = torch.autograd.grad(one, (x, weight), retain_graph=True)
            given = torch.autograd.grad(other, (x, weight), retain_graph=True)
            assert all(map(torch.equal, wanted, given))
    del plain, found, one, other
    gc.collect()
    assert kept._kept == {}


def test_a_step_that_ends_leaves_nothing_on_the_shelf() -> None:
    model = away(build(loads(text(NODES["fork"])), seed=0), {0, 1})
    running = model.running
    assert isinstance(running, Recomputing) and running._offloading is not None
    model(torch.randn(2, 5, 32)).sum().backward()
    model(torch.randn(2, 5, 32))  # a forward without a backward
    gc.collect()
    assert running._offloading.shelf._kept == {}  # type: ignore[attr-defined]


def test_what_cannot_be_offloaded_is_refused(tmp_path: Path) -> None:
    architecture = loads(text(NODES["fork"]))
    made = planner(architecture, batch=2, length=12, roofline=SLOW)
    plan = made.points()[0]
    model = build(architecture, seed=0)
    for names in (["nowhere"], [plan.recomputed[0]]):
        wrong = Plan.read(plan.as_dict() | {"offload": names})
        with pytest.raises(RunError, match=r"plan\.offload\[0\]"):
            apply(model, wrong)
    with pytest.raises(RunError, match="cannot make a file"):
        FileShelf(tmp_path / "none")
