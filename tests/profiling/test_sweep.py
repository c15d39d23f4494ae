"""Time by component, from events whose answer is known by hand."""

from __future__ import annotations

import pytest

from hybridlab.profiling.medians import median
from hybridlab.profiling.sweep import NODE, UNATTRIBUTED, Event, outermost, sweep

EVENTS = [
    Event("ProfilerStep#0", 0, 1000),
    Event("component: (model)", 10, 410),
    Event("component: a", 20, 120),
    Event("aten::mm", 30, 100, 1),
    Event("component: b", 130, 400),
    Event("aten::add", 200, 300, 2),
    Event("aten::copy_", 210, 220),
    Event("component: (loss)", 420, 450),
    Event(f"{NODE}LossBackward", 500, 520, 3),
    Event(f"{NODE}AddBackward", 530, 630, 2),
    Event(f"{NODE}MmBackward", 630, 700, 1),
    Event(f"{NODE}AccumulateGrad", 700, 720, 99),
    Event("component: (optimiser)", 800, 990),
]
OWNERS = {1: "a", 2: "b", 3: "(loss)"}


def test_every_instant_of_a_step_is_counted_once() -> None:
    found = sweep(EVENTS, OWNERS.get)
    assert sum(found.ns.values()) == 1000 == found.step_ns[0]
    assert found.ns == {
        ("(model)", "forward"): 10 + 10 + 10,
        ("a", "forward"): 100,
        ("b", "forward"): 270,
        ("(loss)", "forward"): 30,
        ("(loss)", "backward"): 50 + 20,
        ("b", "backward"): 10 + 100,
        ("a", "backward"): 70 + 20,
        ("(optimiser)", "optimiser"): 190,
        (UNATTRIBUTED, "forward"): 10 + 10 + 80 + 10,
    }


def test_operators_know_their_place_and_inner_ones_are_told_from_outer_ones() -> None:
    calls = sweep(EVENTS, OWNERS.get).calls
    assert [(c.name, c.component, c.phase) for c in calls] == [
        ("aten::mm", "a", "forward"),
        ("aten::add", "b", "forward"),
        ("aten::copy_", "b", "forward"),
    ]
    known = {"aten::mm", "aten::add", "aten::copy_"}
    assert [call.name for call in outermost(calls, known)] == ["aten::mm", "aten::add"]
    assert [call.name for call in outermost(calls, {"aten::copy_"})] == ["aten::copy_"]


def test_what_lies_outside_of_steps_does_not_count() -> None:
    outside = [Event("aten::mm", -50, -10), *EVENTS, Event("aten::mm", 2000, 3000)]
    assert sweep(outside, OWNERS.get).ns == sweep(EVENTS, OWNERS.get).ns


def test_a_median_comes_with_an_interval_of_order_statistics() -> None:
    found = median([float(n) for n in range(1, 21)])
    assert found.value == 10.5 and (found.low, found.high) == (6.0, 15.0)
    assert found.confidence == pytest.approx(0.9586, abs=1e-4)
    few = median([3.0, 1.0, 2.0])
    assert (few.low, few.value, few.high) == (1.0, 2.0, 3.0) and few.confidence == 0.75
    with pytest.raises(ValueError, match="at least one"):
        median([])
