"""Training by a plan, as a run does it: the same losses, metrics and weights, bit for bit, with less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import RunError, SpecError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.record import Budget, Plan
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import make
from hybridlab.workflows import train
from hybridlab.workflows.plan import planner_of
from hybridlab.workflows.profile import profile_settings
from tests.workflows.test_train import Context

DESIGN = (
    "name: small\nwidth: 16\nnodes:\n  - {id: stage, repeat: 2, nodes: [{use: attention, heads: 2}, "
    "{use: swiglu}, {use: moe, experts: 4, top_k: 2}]}\n"
)
TRAINING: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 24, "longer": 24},
    "steps": 6,
    "batch": 8,
    "eval_every": 3,
    "checkpoint_every": 3,
    "component_metrics_every": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    task, spec = prepare(TRAINING)
    made = plan_step(fit(loads(DESIGN), task), task, spec)
    least = made.points()[0].predicted.peak_bytes
    chosen = made.best(Budget(peak_bytes=least))
    assert chosen.recompute
    return chosen


def trained(folder: Path, settings: dict[str, Any], design: str = DESIGN) -> Any:
    context = Context(folder, {"architecture": design, "training": settings})
    result = train.run(context)  # type: ignore[arg-type]
    known = (
        "loss", "val_", "grad_norm", "weight_norm", "update_ratio", "activation_", "dead_share",
        "saturated_share", "attention_entropy", "router_entropy", "expert_load",
    )  # fmt: skip
    points = [point for point in context.points if point[1].startswith(known)]
    return result, points


def test_what_is_learnt_is_the_same_bit_for_bit(plan: Plan, tmp_path: Path) -> None:
    plain, plain_points = trained(tmp_path / "plain", TRAINING)
    result, points = trained(tmp_path / "planned", TRAINING | {"plan": plan.as_dict()})
    assert result["weights_sha256"] == plain["weights_sha256"]
    assert result["metrics"] == plain["metrics"]
    assert points == plain_points and any(name == "loss" for _, name, _ in points)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "another"}, "another architecture"),
        ({"device": "cuda"}, "another kind of device"),
        ({"recompute": [["nowhere"]]}, "no run of components"),
        ({"batch": 0}, "plan.batch"),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    change: dict[str, Any], said: str, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=said):
        trained(tmp_path / "run", TRAINING | {"plan": plan.as_dict() | change})


def test_a_design_that_grows_has_no_plan(plan: Plan) -> None:
    stages = [{"name": "first", "until": 3}, {"name": "second", "grow": {"stage": 1}}]
    with pytest.raises(SpecError, match="take out grow or plan"):
        make(TRAINING | {"plan": plan.as_dict(), "stages": stages})
    with pytest.raises(SpecError, match="is not planned"):
        planner_of(loads(DESIGN), TRAINING | {"stages": stages})


def test_a_profile_runs_as_the_training_would(plan: Plan) -> None:
    settings = {name: TRAINING[name] for name in ("task", "task_params", "batch", "device")}
    plain = profile_settings(loads(DESIGN), settings, steps=1)
    planned = profile_settings(loads(DESIGN), settings | {"plan": plan.as_dict()}, steps=1)
    for peak in (planned.peak_bytes_measured, planned.peak_bytes_predicted):
        assert peak == pytest.approx(plan.predicted.peak_bytes, rel=0.02)
    assert planned.peak_bytes_measured < plain.peak_bytes_measured
    assert any("with the plan of its settings" in note for note in planned.notes)
    assert not any("of its settings" in note for note in plain.notes)

    task, _ = prepare(settings)
    names = tuple(f"root.stage.{at}.swiglu.body.project_in" for at in (0, 1))
    fusion = Fusion(
        fingerprint=fit(loads(DESIGN), task).fingerprint,
        training=True,
        products=tuple((name,) for name in names),
    )
    fused = profile_settings(loads(DESIGN), settings | {"fusion": fusion.as_dict()}, steps=1)
    assert fused.predicted is not None and plain.predicted is not None
    assert len(fused.stream) < len(plain.stream) and len(fused.predicted) < len(plain.predicted)
    assert any("with the fusion of its settings" in note for note in fused.notes)
    made = planner_of(loads(DESIGN), settings | {"fusion": fusion.as_dict()}, measure=False)
    assert made.plain.peak_bytes == pytest.approx(fused.peak_bytes_predicted, rel=0.001)
