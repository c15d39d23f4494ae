"""Plans with PyTorch's budget within components: their peaks are as promised, and they beat one budget for all.

PyTorch divides a graph under its budget whatever compiles the parts, so no C++ is compiled here.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from functorch.compile import (  # type: ignore[import-untyped]
    min_cut_rematerialization_partition,
    nop,
)
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.program import program
from hybridlab.errors import RunError
from hybridlab.planning.budgets.alone import Lone
from hybridlab.planning.budgets.forms import Forms, measure_forms
from hybridlab.planning.budgets.offers import Offer, offers, telling, within
from hybridlab.planning.budgets.plans import budget_curve
from hybridlab.planning.budgets.stretches import Stretch, as_compiled, candidates, together
from hybridlab.planning.compared import PlannedPoint
from hybridlab.planning.compiled import CompiledStep, measure_compiled
from hybridlab.planning.recompute import Recomputing
from hybridlab.planning.record import Figures
from hybridlab.planning.solve import Curve, Point, point_of
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from tests.planning.steps import text

BACKEND = aot_autograd(
    fw_compiler=nop, bw_compiler=nop, partition_fn=min_cut_rematerialization_partition
)
IN_A_ROW = "{use: swiglu}, {use: attention, heads: 2}, {use: swiglu}"
BESIDE = (
    "{id: both, residual: pre, nodes: [{id: a, use: attention, heads: 2, inputs: [input], "
    "residual: none}, {id: b, use: mlp, inputs: [input], residual: none}, "
    "{id: join, use: sum, inputs: [a, b]}]}, {use: swiglu}"
)
SHARES = (1.0, 0.5, 0.0)


def made(nodes: str) -> TrainingStep:
    model = build(loads(text(nodes)), seed=0).train()
    x = torch.randn(16, 48, 32, generator=torch.Generator().manual_seed(0))
    return TrainingStep(model, (x,), default_loss, default_optimiser(model))


def measured(step: TrainingStep, point: Point) -> CompiledStep:
    model = step.model
    assert isinstance(model, GraphModel)
    how = as_compiled(program(model), point.spans, point.shares, point.stretches)
    model.running = Recomputing(*how[:2]) if point.spans or point.stretches else None
    try:
        return measure_compiled(step, 1.0, steps=1, shares=how[2], backend=BACKEND)
    finally:
        model.running = None


@functools.cache
def solved(nodes: str) -> tuple[TrainingStep, Curve, Forms]:
    step = made(nodes)
    return step, *budget_curve(step, shares=SHARES, backend=BACKEND)


@pytest.mark.parametrize("nodes", [IN_A_ROW, BESIDE])
def test_peaks_are_as_promised_and_gradients_those_of_the_plain_step(nodes: str) -> None:
    step, curve, _ = solved(nodes)
    points = telling(offers(curve), 4)
    assert len(points) == 4 and any(point.spans for point in points)
    assert any(0.5 in point.shares or 0.0 in point.shares for point in points)
    for point in points:
        found = measured(step, point)
        assert found.difference < 1e-4
        assert found.figures.peak_bytes == pytest.approx(point.peak_bytes, rel=0.005)
    assert all(module._compiled_call_impl is None for module in step.model.modules())


def test_it_reaches_less_memory_than_one_budget_for_all() -> None:
    step, curve, _ = solved(IN_A_ROW)
    least = measured(step, curve.point(0)).figures.peak_bytes
    alike = (
        measure_compiled(step, share, steps=1, by_component=True, backend=BACKEND)
        for share in SHARES
    )
    assert least < min(one.figures.peak_bytes for one in alike)


def test_every_budget_alike_is_never_better_than_the_curve() -> None:
    _, curve, forms = solved(IN_A_ROW)
    for index in range(len(SHARES)):
        peak_us = 0
        known: frozenset[int] = frozenset()
        standing = peak = 0
        for place in range(len(forms.places) + 1):
            kept = [one for one in curve.given.starting[place] if not one.again]
            choice = kept[min(index, len(kept) - 1)]
            own = choice.local_bytes + curve.given.bytes_of(choice.need - known)
            ahead = choice.ahead_bytes + curve.given.bytes_of(choice.ahead_need - known)
            peak = max(peak, standing + own, standing + ahead)
            standing += curve.given.bytes_of(choice.keeps - known) + choice.extra_bytes
            known |= choice.keeps
            peak_us += choice.time_us
        best = curve.best(max(peak, curve.given.floor_bytes))
        assert best.step_us <= peak_us + curve.given.plain_us


def test_alike_components_are_measured_once_and_share_their_figures() -> None:
    compiled: list[Any] = []

    def counting(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return BACKEND(graph, inputs)

    step = made("{use: mlp}, {use: swiglu}, {use: swiglu}")
    forms = measure_forms(step, shares=SHARES, backend=counting)
    _, first, last, *_ = forms.places
    assert first.forms is last.forms and len(first.forms) > 1
    kept = [form.taken.inner_bytes for form in first.forms]
    assert kept == sorted(kept, reverse=True) and kept[0] > kept[-1]
    different = len({id(one.forms) for one in forms.places})
    assert len(compiled) <= different * len(SHARES)
    weights = sum(one.nbytes for one in step.parameters)
    assert forms.gradients[-1] == 0 and forms.gradients[0] <= weights
    assert forms.update_bytes >= forms.static_bytes + weights


def test_what_draws_random_numbers_is_not_compiled_but_may_be_computed_again() -> None:
    step = made("{use: attention, heads: 2}, {use: mlp}")
    assert isinstance(step.model, GraphModel)
    slot = dict(step.model.slots())["mlp"]
    body = slot.body.forward
    slot.body.forward = lambda x: nn.functional.dropout(body(x), 0.5)
    curve, forms = budget_curve(step, shares=SHARES, backend=BACKEND)
    (drawing,) = (one for one in forms.places if one.name == "mlp")
    assert [form.share for form in drawing.forms] == [None]
    assert "draws random numbers" in drawing.plain_because
    at = forms.places.index(drawing)
    again = next(one for one in curve.given.starting[at] if one.again and one.last == at)
    shares = tuple(one.forms[-1].share for one in forms.places)
    assert again.shares == (None,) and 0.0 in shares
    found = measured(step, Point(0, 0, ((at, at),), shares=shares))
    assert found.difference < 1e-4 and found.graphs
    with pytest.raises(RunError, match=r"in mlp draws random numbers.*190758"):
        measure_compiled(step, 1.0, steps=1, shares=[0.5] * len(shares), backend=BACKEND)


def test_what_cannot_be_compiled_stays_plain_and_says_why() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no such instruction")

    forms = measure_forms(made("{use: mlp}"), shares=(1.0,), backend=broken)
    assert all(form.share is None for one in forms.places for form in one.forms)
    assert "no such instruction" in forms.places[-1].plain_because
    moe = measure_forms(made("{use: moe, experts: 4, top_k: 2}"), shares=(1.0,), backend=BACKEND)
    assert "its graph changes" in next(o.plain_because for o in moe.places if o.name == "moe")


def test_wrong_budgets_are_refused() -> None:
    step = made("{use: mlp}")
    with pytest.raises(RunError, match="out of range"):
        measure_forms(step, shares=(1.0, 2.0), backend=BACKEND)
    with pytest.raises(RunError, match="not one for each component"):
        measure_compiled(step, 1.0, shares=[1.0] * 9, backend=BACKEND)
    assert isinstance(step.model, GraphModel)
    for shares in ([1.0] * 9, [1.0] * 2):
        with pytest.raises(RunError, match="not one for each component"):
            as_compiled(program(step.model), (), shares, ())
    with pytest.raises(RunError, match="not a training step"):
        measure_forms(TrainingStep(nn.Linear(2, 2), (torch.ones(2),)), backend=BACKEND)


def test_a_lone_instruction_tells_what_it_keeps_and_passes_on() -> None:
    x = torch.randn(64, 64, requires_grad=True)

    def added(given: list[Tensor]) -> list[Tensor]:
        one, other = given
        given.clear()
        return [one + other]

    lone = Lone(added, [x, x.detach().clone().requires_grad_()])
    lone.warm()
    adding = lone.taken()
    assert adding.keeps == (False, False) and adding.passes == (True, True)
    assert adding.inner_bytes == 0 and adding.ahead_bytes == x.nbytes

    def squashed(given: list[Tensor]) -> list[Tensor]:
        return [given.pop().sin().exp()]

    lone = Lone(squashed, [x])
    lone.warm()
    taken = lone.taken()
    assert taken.keeps == (True,) and taken.keeps_output and taken.passes == (False,)
    assert taken.inner_bytes == 0 and taken.output_bytes == x.nbytes
    assert taken.held_bytes >= taken.back_bytes > 0


def test_points_to_measure_are_the_ends_and_those_that_dominate_most() -> None:
    _, curve, _ = solved("{use: swiglu}, {use: mlp}")
    found = offers(curve)
    assert [one.peak_bytes for one in found] == list(curve.peak_bytes)
    assert telling(found, 1) == found[:1]
    ends = telling(found, 2)
    assert ends == [found[0], found[-1]]
    assert telling(found, 1000) == found
    some = telling(found, 3)
    assert some[0] == ends[0] and some[-1] == ends[-1] and len(some) == min(3, len(curve))
    plain = point_of(curve.given, ())
    assert plain.peak_bytes > 0


def test_the_step_compiled_as_a_whole_is_a_plan_where_it_is_better() -> None:
    _, curve, _ = solved("{use: swiglu}, {use: mlp}")
    alone = offers(curve, scale=2.0)
    assert [one.step_ms for one in alone] == [2 * one.step_ms for one in offers(curve)]
    least, last = alone[0], alone[-1]
    better = Figures(peak_bytes=least.peak_bytes + 1, step_ms=last.step_ms / 2)
    worse = Figures(peak_bytes=last.peak_bytes, step_ms=last.step_ms + 1)
    both = offers(curve, scale=2.0, whole={0.75: better, 0.5: worse})
    assert both == [least, Offer(better.peak_bytes, better.step_ms, whole=0.75)]
    read = PlannedPoint.model_validate(both[1].as_asked())
    assert read.whole == 0.75 and not read.shares
    assert read.told == "compiled as a whole, budget 0.75" and read.predicted == better
    assert within(both, least.peak_bytes) == least and within(both, 10**12) == both[1]
    assert within(both, least.peak_bytes - 1) is None


@pytest.mark.parametrize("nodes", [IN_A_ROW, BESIDE])
def test_components_compiled_together_have_the_peaks_that_were_promised(nodes: str) -> None:
    step = made(nodes)
    curve, forms = budget_curve(step, shares=SHARES, backend=BACKEND, stretches=True)
    assert isinstance(step.model, GraphModel)
    written = program(step.model)
    assert set(forms.stretches) == set(candidates(written))
    whole = 0, len(written.instructions) - 1
    assert whole in forms.stretches
    tried = 0
    for span, one in forms.stretches.items():
        for form in one.forms:
            first, last = span
            asked = curve.given.starting[first]
            choice = next(
                c
                for c in asked
                if (c.first, c.last) == span and not c.again and c.shares[0] == form.share
            )
            if span != whole and form.share != 0.0:
                continue
            shares = tuple(
                form.share if first <= at <= last else one.forms[0].share
                for at, one in enumerate(forms.places)
            )
            promised = _peak(curve, span, choice.shares[0])
            found = measured(step, Point(promised, 0, (), shares=shares, stretches=(span,)))
            assert found.difference < 1e-4
            assert found.figures.peak_bytes == pytest.approx(promised, rel=0.005)
            tried += 1
    assert tried >= 4


def _peak(curve: Curve, span: tuple[int, int], share: float | None) -> int:
    """Return what is promised where one stretch is compiled together, and all else alone under the first budget."""
    given, place, standing, peak = curve.given, 0, 0, curve.given.floor_bytes
    known: frozenset[int] = frozenset()
    while place < len(given.units):
        last = span[1] if place == span[0] else place
        choice = next(
            c
            for c in given.starting[place]
            if not c.again and c.last == last and (last == place or c.shares[0] == share)
        )
        own = choice.local_bytes + given.bytes_of(choice.need - known)
        ahead = choice.ahead_bytes + given.bytes_of(choice.ahead_need - known)
        peak = max(peak, standing + own, standing + ahead)
        standing += given.bytes_of(choice.keeps - known) + choice.extra_bytes
        known |= choice.keeps
        place = last + 1
    return peak


def test_stretches_end_where_one_value_stands() -> None:
    model = made(BESIDE).model
    assert isinstance(model, GraphModel)
    written = program(model)
    names = written.names
    opens, closes = names.index("both opens"), names.index("both closes")
    found = candidates(written)
    assert (opens, closes) in found and (0, len(names) - 1) in found
    inside = range(opens + 1, closes + 1)
    assert not any(first in inside or last + 1 in inside for first, last in found)
    assert not any(first <= closes <= last for first, last in candidates(written, {closes}))
    assert (opens, closes) in candidates(written, {len(names) - 1})
    made_one = together(written, [(opens, closes)])
    one = made_one.instructions[opens]
    assert isinstance(one.module, Stretch) and one.reads == written.instructions[opens].reads
    assert len(made_one.instructions) == len(names) - (closes - opens)
    x = torch.randn(2, 48, 32)
    plain = model(x)
    model.running = Recomputing(made_one, [])
    assert torch.equal(model(x), plain)
    model.running = None
    spans, shares = [(closes + 1, closes + 1)], tuple(float(at) for at in range(len(names)))
    _, moved, left = as_compiled(written, spans, shares, [(opens, closes)])
    assert moved == [(opens + 1, opens + 1)]
    assert left == (*shares[: opens + 1], *shares[closes + 1 :])


def test_a_plan_says_in_how_many_pieces_it_is_compiled() -> None:
    one = Offer(1, 2.0, shares=(1.0, 0.5, 0.5), stretches=((1, 2),))
    read = PlannedPoint.model_validate(one.as_asked())
    assert read.stretches == ((1, 2),)
    assert read.told == "2 of 3 components below budget 1, compiled in 2 pieces"
