"""Training by a plan, as a run does it: the same losses, metrics and weights, bit for bit, with less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import RunError, SpecError
from hybridlab.planning.record import Budget, Plan
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import make
from hybridlab.workflows import train
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


def trained(folder: Path, settings: dict[str, Any], *, resumed: bool = False) -> Any:
    context = Context(folder, {"architecture": DESIGN, "training": settings}, resumed=resumed)
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


def test_a_plan_stands_alone(plan: Plan) -> None:
    stages = [{"name": "first", "until": 3}, {"name": "second"}]
    with pytest.raises(SpecError, match="take out plan"):
        make(TRAINING | {"plan": plan.as_dict(), "stages": stages})
