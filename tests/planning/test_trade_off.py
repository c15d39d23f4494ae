"""The curve as plain data says what the planner says, and the timeline of a plan reaches the peak that it promises."""

from __future__ import annotations

import json

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import RunError, SpecError
from hybridlab.planning import planner as planner_module
from hybridlab.planning.planner import Planner, planner
from hybridlab.planning.record import Budget
from hybridlab.planning.solve import point_of
from hybridlab.planning.timeline import timeline
from hybridlab.planning.trade_off import TradeOff
from tests.planning.steps import NODES, text

BATCH, LENGTH = 8, 32


@pytest.fixture(scope="module")
def made() -> Planner:
    nodes = f"{NODES['chain']}, {{use: moe, experts: 4, routing: sigmoid}}"
    return planner(loads(text(nodes)), batch=BATCH, length=LENGTH)


def test_a_curve_comes_through_json_and_gives_the_planners_plans(made: Planner) -> None:
    found = TradeOff.read(json.loads(json.dumps(made.trade_off("parity", "cpu").as_dict())))
    assert len(found) == len(made.curve) > 3
    for share in (1.0, 0.8, 0.6, 2.0):
        budget = Budget(share=share)
        try:
            wanted = made.best(budget)
        except SpecError as error:
            with pytest.raises(SpecError) as told:
                found.best(budget)
            assert told.value.problems == error.problems
            continue
        assert found.best(budget) == wanted.model_copy(update={"task": "parity"})
    assert [found.plan(index).recompute for index in range(len(found))] == [
        plan.recompute for plan in made.points()
    ]
    assert found.plain.predicted == made.plain and not found.plain.recompute
    assert {part.name: part.kept_because for part in found.parts if part.kept_because} == (
        found.plain.kept_because
    )


def test_plans_by_count_stand_beside_it_by_the_same_account(made: Planner) -> None:
    found = made.trade_off()
    names = [one.name for one in found.uniform]
    assert "runs of 1" in names and any(name.startswith("every 2") for name in names)
    for one in found.uniform:
        point = point_of(made.choices, one.spans)
        assert one.predicted.peak_bytes == point.peak_bytes >= found.least_bytes
        within = found.best(Budget(peak_bytes=point.peak_bytes))
        assert within.predicted.step_ms <= one.predicted.step_ms
    assert len({one.spans for one in found.uniform}) == len(found.uniform)


def test_a_long_curve_keeps_its_ends(made: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "MOST_POINTS", 3)
    found = made.trade_off()
    assert len(found) == 3
    assert found.least_bytes == made.curve.point(0).peak_bytes
    assert found.peak_bytes[-1] == made.plain.peak_bytes


def test_what_is_no_curve_is_refused(made: Planner) -> None:
    with pytest.raises(RunError, match="not of a curve of plans"):
        TradeOff.read(made.trade_off().as_dict() | {"holder": 3})


@pytest.mark.parametrize("place", [0, -1])
def test_a_timeline_adds_up_and_reaches_the_promised_peak(made: Planner, place: int) -> None:
    plan = made.points()[place]
    found = json.loads(json.dumps(timeline(made, plan), allow_nan=False))
    assert found["peak_bytes"] == pytest.approx(plan.predicted.peak_bytes, rel=0.02)
    for by in ("category", "component"):
        at, parts = found[by]["ms"], found[by]["parts"]
        assert at == sorted(at) and 0 <= at[0] <= at[-1] <= plan.predicted.step_ms * 1.0001
        total = [sum(sizes) for sizes in zip(*parts.values(), strict=True)]
        assert max(total) == found["peak_bytes"] and min(map(min, parts.values())) >= 0
    kept = "kept for backward"
    assert {"weights", "gradients", "optimiser state", kept} <= set(found["category"]["parts"])
    assert sum(row["bytes"] for row in found["at_peak"]) == found["peak_bytes"]


def test_a_plan_holds_less_for_backward_than_the_step_as_it_is(made: Planner) -> None:
    plain, least = (
        timeline(made, made.points()[at])["category"]["parts"]["kept for backward"]
        for at in (-1, 0)
    )
    assert max(least) < max(plain)
