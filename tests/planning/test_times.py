"""Times of plans: what is computed again costs its forward, in the number format and the company of the step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.hardware.ceilings import Bandwidth
from hybridlab.hardware.roofline import Roofline
from hybridlab.planning.planner import Planner, planner
from hybridlab.trace.calibration import Calibration, Directions, Factors, component_key
from hybridlab.trace.exact import Recipe

DESIGN = loads("name: small\nwidth: 32\nnodes: [{use: swiglu}, {use: attention}, {use: mlp}]")
ROOFLINE = Roofline(1e11, (Bandwidth(1 << 40, 1e10),), 2e-6, "a machine")


def planned(
    factors: Directions, *, cast: torch.dtype | None = None, company: float = 1.0
) -> Planner:
    """Return the planner of a step on a machine whose components all have these factors."""
    slots = infer(DESIGN).slots.values()
    found = {component_key(plan): (plan.info.name, factors) for plan in slots}
    calibration = replace(Calibration().with_components(found), company=(company, 1.0, 1.0))
    return planner(
        DESIGN,
        batch=4,
        length=48,
        recipe=Recipe(cast=cast),
        roofline=ROOFLINE,
        calibration=calibration,
    )


def forward_us(made: Planner) -> list[int]:
    return [unit.forward_us for unit in made.units]


def test_computing_again_costs_forward_and_not_backward() -> None:
    plain = planned(Directions())
    ahead = planned(Directions(forward=Factors(3.0, 3.0)))
    back = planned(Directions(backward=Factors(3.0, 3.0)))
    assert forward_us(ahead) == pytest.approx([3 * us for us in forward_us(plain)], abs=3)
    assert forward_us(back) == forward_us(plain)
    assert min(ahead.plain.step_ms, back.plain.step_ms) > 1.5 * plain.plain.step_ms


def test_what_is_computed_again_has_the_company_of_the_step() -> None:
    alone, beside = (planned(Directions(), company=company) for company in (1.0, 1.5))
    assert forward_us(beside) == pytest.approx([1.5 * us for us in forward_us(alone)], abs=2)
    more = 1e3 * (beside.plain.step_ms - alone.plain.step_ms)
    assert more == pytest.approx(0.5 * sum(forward_us(alone)), rel=0.02)


def test_a_step_in_bfloat16_is_predicted_by_its_own_operators() -> None:
    """Casts are calls of their own, and what is moved is half as much."""
    calls, work = (
        Directions(Factors(1.0, 0.0), Factors(1.0, 0.0)),
        Directions(Factors(0.0, 1.0), Factors(0.0, 1.0)),
    )
    wide, narrow = planned(calls), planned(calls, cast=torch.bfloat16)
    assert narrow.plain.step_ms > wide.plain.step_ms
    assert sum(forward_us(narrow)) > sum(forward_us(wide))
    per_call = [planned(work, cast=cast).plain.step_ms for cast in (None, torch.bfloat16)]
    assert per_call[0] != per_call[1]


def test_what_times_rest_on_goes_with_the_curve() -> None:
    assert planned(Directions()).trade_off().rests_on == "components measured alone on this machine"
