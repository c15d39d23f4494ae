"""A plan changes when things are computed, not what: gradients, losses, buffers and random states stay bit-equal."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import Slot, build
from hybridlab.architecture.program import program
from hybridlab.errors import RunError
from hybridlab.planning.planner import planner
from hybridlab.planning.recompute import Recomputing, apply
from hybridlab.planning.tracing import trace_plain
from hybridlab.trace.exact import Recipe
from tests.planning.steps import NODES, equal, steps, text, with_spans


def spans_of(count: int, held: set[int], each: int) -> tuple[tuple[int, int], ...]:
    """Return runs of ``each`` places that leave out those which are held."""
    spans, first = [], None
    for place in range(count + 1):
        if first is not None and (place == count or place in held or place - first == each):
            spans.append((first, place - 1))
            first = None
        if first is None and place < count and place not in held:
            first = place
    return tuple(spans)


@pytest.mark.parametrize("each", [1, 2, 9])
@pytest.mark.parametrize("name", list(NODES))
def test_steps_are_equal_bit_for_bit(name: str, each: int) -> None:
    architecture = loads(text(NODES[name]))
    held = set(
        trace_plain(architecture, infer(architecture), batch=2, length=12, recipe=Recipe()).held
    )
    x = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    plain = steps(build(architecture, seed=0), x)
    model = build(architecture, seed=0)
    spans = spans_of(len(program(model).names), held, each)
    assert spans
    assert equal(plain, steps(with_spans(model, spans), x))


def test_what_is_drawn_is_drawn_again() -> None:
    architecture = loads(text("{use: mlp}, {use: swiglu}, {use: mlp}"))

    def made() -> nn.Module:
        model = build(architecture, seed=0)
        for _, slot in model.slots():
            slot.body = nn.Sequential(nn.Dropout(0.5), slot.body, nn.Dropout(0.3))  # type: ignore[assignment]
            slot.body.aux_loss = slot.body.exit = lambda: None  # type: ignore[union-attr]
            slot.body.after_update = lambda: None  # type: ignore[union-attr]
        return model

    x = torch.randn(2, 12, 32)
    plain, planned = made(), made()
    for spans in (((0, 0), (2, 2)), ((0, 2),)):
        assert equal(steps(made(), x), steps(with_spans(made(), spans), x))  # type: ignore[arg-type]
    assert not equal(steps(plain, x), steps(planned.eval(), x[:1]))  # type: ignore[arg-type]


def test_experts_that_count_are_kept_and_it_is_said_why() -> None:
    architecture = loads(text("{use: moe, experts: 4}, {use: moe, experts: 4, routing: sigmoid}"))
    made = planner(architecture, batch=8, length=64)
    least = made.points()[0]
    assert list(least.kept_because) == ["moe_2"]
    assert "load_since_update" in least.kept_because["moe_2"]
    assert all("moe_2" not in plan.recomputed for plan in made.points())
    assert any("moe" in plan.recomputed for plan in made.points())


def test_losses_beside_the_output_arrive_once() -> None:
    architecture = loads(text(NODES["experts"]))
    model = with_spans(build(architecture, seed=0).train(), ((0, 1),))
    x = torch.randn(2, 12, 32)
    output = model(x)
    asked = model.aux_loss()
    assert asked is not None and len(model._aux) == 1
    (output.sum() + asked).backward()
    assert model.aux_loss() is not None and len(model._aux) == 1


def test_nothing_of_a_step_stays_in_memory() -> None:
    model = with_spans(build(loads(text(NODES["experts"])), seed=0).train(), ((0, 1),))
    body = next(slot for _, slot in model.slots()).body
    gc.disable()
    try:
        output = model(torch.randn(2, 12, 32))
        noted = body._balance
        assert isinstance(noted, Tensor)
        (output.sum() + model.aux_loss()).backward()
        assert body._balance is noted, "what it notes the second time holds another graph"
        left = [weakref.ref(one) for one in (output, noted)]
        del output, noted
        model(torch.randn(2, 12, 32))
        model(
            torch.randn(2, 12, 32)
        )  # a forward without its backward, such as one that only measures
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


def test_plans_are_for_training_alone() -> None:
    architecture = loads(text(NODES["chain"]))
    model, plain = build(architecture, seed=0), build(architecture, seed=0)
    x = torch.randn(2, 12, 32)
    ran: list[int] = []

    class Told(Recomputing):
        def __call__(self, x: Tensor):  # type: ignore[no-untyped-def]
            ran.append(1)
            return super().__call__(x)

    model.running = Told(program(model), ((0, 1),))
    assert torch.equal(model.eval()(x), plain.eval()(x)) and not ran
    with torch.no_grad():
        model.train()(x)
    assert not ran
    model(x)
    assert ran
    twin = copy.deepcopy(model)
    assert isinstance(twin.running, Recomputing)
    slots = {id(slot) for _, slot in twin.slots()}
    assert {
        id(one.module) for one in twin.running.program.instructions if isinstance(one.module, Slot)
    } == slots


def test_a_plan_is_applied_and_taken_away_and_refused_elsewhere() -> None:
    architecture = loads(text(NODES["chain"]))
    plan = planner(architecture, batch=2, length=16).points()[0]
    assert plan.recompute
    model = build(architecture, seed=0)
    apply(model, plan)
    assert isinstance(model.running, Recomputing)
    apply(model, None)
    assert model.running is None
    with pytest.raises(RunError, match="another architecture"):
        apply(build(loads(text(NODES["fork"])), seed=0), plan)
