"""Plans in every way of training: learnt is the same bit for bit, and peaks are those that are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.planner import Planner
from hybridlab.planning.recompute import apply, random_state_bytes
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit, task
from hybridlab.training.defaults import prepare
from hybridlab.training.weights import write_weights
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.plan import planner_of
from hybridlab.workflows.profile import training_step
from tests.planning.test_training import trained
from tests.training.several_made import settings as on_digits
from tests.training.staged import DESIGN as BRANCHES
from tests.training.staged import HARD

pytestmark = pytest.mark.usefixtures("only_new_garbage")
DESIGN = (
    "name: small\nwidth: 16\nnodes:\n  - {id: stage, repeat: 2, tie: true, nodes: [{use: attention, heads: 2}, "
    "{use: swiglu}]}\n  - {use: mlp}\n  - {use: mamba2, heads: 2, state: 4}\n"
)
IMAGES = "name: trunk\nwidth: 16\nnodes: [{use: attention, heads: 2, causal: false}, {use: swiglu}, {use: mlp}]\n"
PARITY: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 12, "longer": 12},
    "steps": 4,
    "batch": 8,
    "eval_every": 4,
    "checkpoint_every": 4,
    "device": "cpu",
}
NARROW = {"precision": "bfloat16"}
STAGES = [
    {"name": "a", "until": 2, "freeze": "stage.*", "experts": 1, "task_params": {"pairs": 2}},
    {"name": "b", "until": 2, "unfreeze": "stage.*", "open": {"s": 2}},
    {"name": "c"},
]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "bfloat16 in parts": (DESIGN, PARITY | NARROW | {"accumulation": 3}),
    "stages": (
        BRANCHES,
        PARITY | {"task": "mqar", "task_params": HARD, "steps": 6, "stages": STAGES},
    ),
    "tasks": (IMAGES, on_digits(steps=4, accumulation=2, tasks={"balancing": "pcgrad"})),
    "teacher": (DESIGN, PARITY),
}


def with_teacher(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return settings with a teacher whose answers, hidden states and mixing count."""
    text = "name: teacher\nwidth: 24\nnodes: [{use: attention, heads: 2}, {use: mlp}]\n"
    (folder / "teacher.yaml").write_text(text)
    what = task(settings["task"], **settings["task_params"])
    model = build(fit(loads(text), what), what.input_type(), seed=3)
    write_weights(model.state_dict(), folder / "teacher.safetensors")
    pairs = [{"teacher": "attention", "student": "mamba2"}]
    teacher = {
        "architecture": str(folder / "teacher.yaml"),
        "weights": str(folder / "teacher.safetensors"),
    }
    counts = {"hidden": {}, "matrices": {}, "layers": pairs}
    return settings | {"teacher": teacher | counts}


@pytest.mark.parametrize("way", list(WAYS))
def test_what_is_learnt_is_the_same_bit_for_bit(way: str, tmp_path: Path) -> None:
    design, settings = WAYS[way]
    if way == "teacher":
        settings = with_teacher(settings, tmp_path)
    made = planner_of(loads(design), settings, measure=False)
    plan = made.points()[0]
    assert len(plan.recomputed) > 2
    assert bool(plan.note) == (way in ("stages", "tasks", "teacher"))
    plain, plain_points = trained(tmp_path / "plain", settings, design)
    result, points = trained(tmp_path / "planned", settings | {"plan": plan.as_dict()}, design)
    assert result["weights_sha256"] == plain["weights_sha256"]
    assert result["metrics"] == plain["metrics"]
    assert points == plain_points and any(name == "loss" for _, name, _ in points)


def planned(design: str, settings: dict[str, Any]) -> Planner:
    """Return a planner, by whatever times."""
    what, spec = prepare(settings)
    return plan_step(fit(loads(design), what), what, spec, measure=False)


@pytest.mark.parametrize("way", ["bfloat16 in parts", "tasks"])
def test_peaks_are_those_of_the_profilers_memory_events(way: str) -> None:
    design, settings = WAYS[way]
    check(design, settings)


def test_a_fused_and_tuned_step_is_planned_as_it_runs() -> None:
    made = planned(DESIGN, PARITY)
    maps = ("root.stage.body.swiglu.body.project_in",)
    fusion = {"fingerprint": made.architecture.fingerprint, "training": True, "products": [maps]}
    tuning = {
        "fingerprint": made.architecture.fingerprint,
        "training": True,
        "chunk": {"mamba2": 4},
    }
    check(DESIGN, PARITY | {"fusion": fusion, "tuning": tuning})


def check(design: str, settings: dict[str, Any]) -> None:
    """Hold predicted peaks against measured ones, of the smallest plan, of one between, and of the plain step."""
    made = planned(design, settings)
    points = made.points()
    what, spec = prepare(settings)
    model = build(made.architecture, what.input_type(), seed=0)
    as_trained(model, spec)
    step = training_step(model, what, spec)
    for plan in (points[0], points[len(points) // 2], None):
        apply(model, plan)
        promised = (plan.predicted if plan else made.plain).peak_bytes
        assert promised == pytest.approx(measured_peak(step), rel=0.02)
        if plan is not None:  # which has no random states to put back
            states = len(plan.recompute) * random_state_bytes()
            traced = made.stream(plan).peak_bytes
            assert 0.98 * traced <= promised <= 1.02 * (traced + states)
