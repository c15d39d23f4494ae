"""Calibrations: what was measured beside others' work is measured again in quiet; every size is predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import SlotPlan, infer
from hybridlab.architecture.library import open_architecture
from hybridlab.hardware.others import Others
from hybridlab.profiling import calibrate as room
from hybridlab.profiling.calibrate import calibrate
from hybridlab.tasks.registry import fit, task
from hybridlab.trace.calibration import (
    Calibration,
    Directions,
    Factors,
    component_key,
    keep,
    kept,
    nearest,
    parts,
)
from hybridlab.trace.component_cost import trace_slot
from hybridlab.trace.machine import this_cpu
from hybridlab.trace.predict import predict

DESIGN = loads(
    "name: small\nwidth: 16\nnodes: [{use: token_embedding, vocab: 16}, {use: mlp}, {use: lm_head, vocab: 16}]\n"
)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Every measuring, which is a count here instead of a time; the home is empty."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    told: list[int] = []

    def typical(*stages: object, **given: object) -> tuple[float, ...]:
        told.append(len(told))
        return (1e-3 * (1 + len(told)),) * len(stages)

    monkeypatch.setattr(room, "_typical", typical)
    return told


def _calibrated() -> Calibration:
    return calibrate(DESIGN, infer(DESIGN, None), this_cpu(1))


def test_what_was_measured_beside_others_is_measured_again(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Others, "cores", lambda self: 1.5)
    first = _calibrated()
    count = len(measured)
    assert set(first.doubtful) == {*first.components, "update_s", "loss_s", "company"}
    assert _calibrated() == first and len(measured) == count  # not again so soon
    monkeypatch.setattr(room, "_AGAIN_SECONDS", -1.0)
    assert _calibrated() == first and len(measured) == count  # nor while others are at work
    monkeypatch.setattr(Others, "cores", lambda self: 0.1)
    second = _calibrated()
    assert len(measured) == 2 * count and not second.doubtful
    assert second.company is not None and second.components.keys() == first.components.keys()
    assert all(second.components[key] != first.components[key] for key in first.components)
    assert _calibrated() == second == kept(1) and len(measured) == 2 * count


def test_what_was_measured_alone_is_sound(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Others, "cores", lambda self: 0.0)
    assert not _calibrated().doubtful and measured


FORWARD, BACKWARD = Factors(9.0, 2.0), Factors(5.0, 3.0)
FIXED = fit(open_architecture("griffin_mini"), task("digits_sequence"))
"""A design whose length its task fixes."""


def _by_law(
    plan: SlotPlan, architecture: Any, batch: int, length: int, cast: torch.dtype | None
) -> tuple[float, float]:
    """Stand in for a measuring: a machine that is exactly as the factors say."""
    eps = architecture.norm_eps
    traced = trace_slot(plan, architecture.norm, batch, length, eps, cast=cast)
    ahead, back = (parts(side, this_cpu(1)) for side in (traced.forward, traced.backward))
    return (
        FORWARD.overhead * ahead[0] + FORWARD.work * ahead[1],
        BACKWARD.overhead * back[0] + BACKWARD.work * back[1],
    )


@pytest.fixture
def lawful(measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is exactly as the factors say, where one time in a network is as long as alone."""
    monkeypatch.setattr(room, "component_s", _by_law)
    monkeypatch.setattr(
        room, "_with_company", lambda known, *rest: replace(known, company=(1.0,) * 3)
    )
    monkeypatch.setattr(room, "_update", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(room, "_loss", lambda: (0.0, 0.0))


@pytest.mark.usefixtures("lawful")
@pytest.mark.parametrize("cast", [None, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 16, 128])
def test_steps_of_a_fixed_length_are_predicted_at_every_batch(
    batch: int, cast: torch.dtype | None
) -> None:
    kind, length = task("digits_sequence").input_type(), task("digits_sequence").length
    inference = infer(FIXED, kind)
    made = calibrate(FIXED, inference, this_cpu(1), cast=cast)
    for found in made.components.values():
        assert found.forward.work == pytest.approx(FORWARD.work, rel=1e-3)
        assert found.forward.overhead == pytest.approx(FORWARD.overhead, rel=1e-3)
        assert found.backward.work == pytest.approx(BACKWARD.work, rel=1e-3)
    said = predict(
        FIXED, kind, batch=batch, length=length, roofline=this_cpu(1), calibration=made, cast=cast
    )
    true = sum(sum(_by_law(plan, FIXED, batch, length, cast)) for plan in inference.slots.values())
    assert said.step_ms == pytest.approx(1e3 * true, rel=1e-3)


@pytest.mark.usefixtures("lawful")
def test_number_formats_have_calibrations_of_their_own() -> None:
    inference = infer(DESIGN, None)
    wide = calibrate(DESIGN, inference, this_cpu(1))
    assert kept(1) == wide and kept(1, torch.bfloat16) == Calibration()
    narrow = calibrate(DESIGN, inference, this_cpu(1), cast=torch.bfloat16)
    assert kept(1) == wide and kept(1, torch.bfloat16) == narrow
    (plan,) = (one for path, one in inference.slots.items() if path == "mlp")
    rows = [trace_slot(plan, "rms_norm", 8, 24, cast=one) for one in (None, torch.bfloat16)]
    assert len(rows[1].forward.rows) > len(rows[0].forward.rows)  # casts are work too


def test_what_times_rest_on_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    plans = list(infer(DESIGN, None).slots.values())
    assert "ceilings alone" in Calibration().rests_on(plans)
    found = {component_key(plan): (plan.info.name, Directions()) for plan in plans}
    whole = Calibration().with_components(found)
    assert whole.rests_on(plans) == "components measured alone on this machine"
    first = dict([found.popitem()])
    assert f"1 of {len(plans)}" in Calibration().with_components(first).rests_on(plans)
    keep(whole, 1)
    assert f"0 of {len(plans)}" in nearest(1, torch.bfloat16).rests_on(plans)  # by float32's


def test_company_is_told_by_direction_and_the_same_when_it_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    monkeypatch.setattr(room, "component_s", _by_law)
    monkeypatch.setattr(room, "_update", lambda: (2e-3, 0.0, 0.0))
    monkeypatch.setattr(Others, "cores", lambda self: 0.0)
    hybrid = loads(room._HYBRID)
    slots = infer(hybrid).slots.values()
    lengths = iter([*room.LENGTHS, *room.LENGTHS])

    def typical(*stages: object) -> tuple[float, ...]:
        """Each direction of the hybrid takes so much longer than alone."""
        if len(stages) == 1:
            return (1e-3,)
        took = [
            _by_law(one, hybrid, room._BATCH, length, None)
            for length in [next(lengths)]
            for one in slots
        ]
        ahead, back = (sum(one[way] for one in took) for way in (0, 1))
        return (1.3 * ahead, 1.1 * back, 3.0 * 2e-3)

    monkeypatch.setattr(room, "_typical", typical)
    assert _calibrated().company == pytest.approx((1.3, 1.1, 3.0), rel=1e-3)
    keep(kept(1).measured({"company"}, 1.0), 1)  # doubtful, long ago
    assert _calibrated().company == pytest.approx((1.3, 1.1, 3.0), rel=1e-3)
    assert next(lengths, None) is None and not kept(1).doubtful


@pytest.mark.parametrize("cast", [None, torch.bfloat16])
def test_a_measuring_runs_forward_and_backward_in_the_number_format(
    cast: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    read: list[float] = []
    (plan,) = (one for path, one in infer(DESIGN, None).slots.items() if path == "mlp")

    def spied(*inputs: torch.Tensor) -> torch.Tensor:
        out = multiply(*inputs)
        seen.append(out.dtype)
        read.append(float(inputs[0].detach().double().sum()))
        return out

    multiply = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", spied)
    ahead, back = room.component_s(plan, DESIGN, 2, 8, cast)
    assert ahead > 0 and back > 0 and set(seen) == {cast or torch.float32}
    assert len(read) > 4 and len(set(read)) == len(read)  # other numbers each time
