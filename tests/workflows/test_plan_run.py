"""The workflow that measures a plan: what it reads from a run's record, what it leaves, how it stops and is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import RunError, SpecError
from hybridlab.planning.record import Budget, Plan
from hybridlab.runs.context import Stopped
from hybridlab.workflows import plan_run
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.plan import planner_of, trade_off_of

DESIGN = "name: small\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n  - {use: mlp}\n"
TRAINING: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 32, "longer": 32},
    "batch": 16,
    "device": "cpu",
}


class Context:
    """A run's context that remembers what it was told."""

    def __init__(self, folder: Path, plan: Any, stop_after: int = 99, **more: Any) -> None:
        self.folder, self.stop_after = folder, stop_after
        spec = {"architecture": DESIGN, "training": {**TRAINING, **more}, "plan": plan}
        self.run = SimpleNamespace(id="abc", spec=spec, threads=1)
        self.told: list[tuple[int, int]] = []

    def progress(self, step: int, steps: int) -> None:
        self.told.append((step, steps))

    def stop_requested(self) -> str | None:
        return "cancel" if len(self.told) >= self.stop_after else None


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = planner_of(loads(DESIGN), TRAINING, measure=False)
    found = trade_off_of(made, TRAINING)
    assert found.plain.task == "parity"
    return found.best(Budget(peak_bytes=found.least_bytes))


def test_a_plan_is_measured_beside_the_plain_step(plan: Plan, tmp_path: Path) -> None:
    context = Context(tmp_path, plan.as_dict())
    result = plan_run.run(context)  # type: ignore[arg-type]
    assert context.told == [(done, 9) for done in range(10)]
    written = json.loads((tmp_path / plan_run.FILE).read_text())
    kept = Plan.read(written["plan"])
    assert kept.recompute == plan.recompute and kept.recompute
    assert kept.predicted.peak_bytes == plan.predicted.peak_bytes
    assert kept.measured is not None and kept.measured.model_dump() == result["measured"]
    assert kept.measured.peak_bytes == pytest.approx(kept.predicted.peak_bytes, rel=0.02)
    assert written["plain_measured"]["peak_bytes"] > kept.measured.peak_bytes
    assert (tmp_path / "architecture.yaml").read_text() == DESIGN


def test_a_measurement_stops_between_its_parts(plan: Plan, tmp_path: Path) -> None:
    context = Context(tmp_path, plan.as_dict(), stop_after=3)
    with pytest.raises(Stopped):
        plan_run.run(context)  # type: ignore[arg-type]
    assert not (tmp_path / plan_run.FILE).exists()


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({"fingerprint": "another"}, {}, "another architecture"),
        ({"batch": 3}, {}, "another size"),
        ({"recompute": [["nowhere"]]}, {}, "no run of components"),
        ({}, {"stages": [{"name": "a", "until": 3}, {"name": "b", "grow": {"n": 1}}]}, "grow"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], more: dict[str, Any], said: str, plan: Plan, tmp_path: Path
) -> None:
    context = Context(tmp_path, plan.as_dict() | change, **more)
    with pytest.raises((RunError, SpecError), match=said):
        plan_run.run(context)  # type: ignore[arg-type]


def test_a_record_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="architecture, settings and plan"):
        plan_run.run(Context(tmp_path, None))  # type: ignore[arg-type]


def test_memory_that_runs_out_is_told_with_what_the_plan_promises(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(plan_run, "measure_plan", full)
    with pytest.raises(RunError, match="plan a smaller batch"):
        plan_run.run(Context(tmp_path, plan.as_dict()))  # type: ignore[arg-type]


def test_a_training_with_anothers_plan_is_refused_before_it_starts(plan: Plan) -> None:
    assert prepared(DESIGN, TRAINING | {"plan": plan.as_dict()})["training"]["plan"]
    other = DESIGN.replace("mlp", "swiglu")
    with pytest.raises(RunError, match="another architecture"):
        prepared(other, TRAINING | {"plan": plan.as_dict()})
