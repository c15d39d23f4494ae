"""What plans promise against the step predicted anew with the plan, and against the profiler's memory events."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.model import GraphModel, build
from hybridlab.hardware.ceilings import Bandwidth
from hybridlab.hardware.roofline import Roofline
from hybridlab.planning.measure import measure_plan, measured_peak
from hybridlab.planning.planner import Planner, planner
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Budget
from hybridlab.planning.solve import point_of
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from hybridlab.training.defaults import prepare
from hybridlab.workflows.profile import training_step
from tests.planning.steps import NODES, text

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from random_architectures import random_architecture

pytestmark = pytest.mark.usefixtures("only_new_garbage")
BATCH, LENGTH = 4, 48


def some(made: Planner) -> list[int]:
    """Return the first, the middle and the last point of a curve."""
    return sorted({0, len(made.curve) // 2, len(made.curve) - 1})


@pytest.mark.parametrize("name", list(NODES))
def test_peaks_are_those_of_the_profilers_memory_events(name: str) -> None:
    architecture = loads(text(NODES[name]))
    made = planner(architecture, batch=BATCH, length=LENGTH)
    points = made.points()
    for index in some(made):
        model = build(architecture, seed=0)
        x = torch.randn(BATCH, LENGTH, 32)
        step = TrainingStep(model, (x,), default_loss, default_optimiser(model))
        apply(model, points[index])
        assert points[index].predicted.peak_bytes == pytest.approx(measured_peak(step), rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_one_trace_says_what_a_trace_with_the_plan_says(seed: int) -> None:
    made = planner(random_architecture(seed), batch=BATCH, length=LENGTH)
    for index in some(made):
        plan = made.points()[index]
        assert plan.predicted.peak_bytes == pytest.approx(made.stream(plan).peak_bytes, rel=0.02)


def test_a_step_of_a_task_is_planned_and_measured() -> None:
    task, spec = prepare({"task": "mqar", "batch": 8, "device": "cpu"})
    architecture = fit(open_architecture("transformer_mini"), task)
    made = plan_step(architecture, task, spec)
    plan = made.best(Budget(share=0.8))
    assert plan.predicted.peak_bytes <= 0.8 * made.plain.peak_bytes
    assert plan.predicted.step_ms > made.plain.step_ms
    step = training_step(build(architecture, task.input_type(), seed=0), task, spec)
    measured, plain = measure_plan(step, plan, steps=3)
    assert measured.peak_bytes == pytest.approx(plan.predicted.peak_bytes, rel=0.02)
    assert plain.peak_bytes == pytest.approx(made.plain.peak_bytes, rel=0.02)
    assert measured.step_ms > 0 and plain.step_ms > 0
    assert isinstance(step.model, GraphModel) and step.model.running is not None
    step.model.running = None

    def cancelled(done: int, parts: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_plan(step, plan, steps=3, on_part=cancelled)
    assert step.model.running is None, "it runs as it did before"


def test_groups_are_planned_inside_and_repeats_one_by_one() -> None:
    made = planner(loads(text(NODES["post"])), batch=BATCH, length=LENGTH)
    assert made.names == (
        "g.0.mlp",
        "g.0.gated_linear_attention",
        "g.1.mlp",
        "g.1.gated_linear_attention",
        "g closes",
    )
    tied = planner(loads(text(NODES["shared"])), batch=BATCH, length=LENGTH)
    assert tied.names == ("g opens", "g.swiglu", "g.swiglu#2", "g closes")
    for unit in (*made.units, *tied.units):
        assert unit.forward_us >= unit.again_us >= 0 and unit.saved_bytes >= 0
    assert all(unit.saved_bytes > 0 for unit in made.units)


def test_what_keeps_nothing_is_not_asked_for_again_and_holds_nothing() -> None:
    task, spec = prepare({"task": "mqar", "batch": 4, "device": "cpu"})
    architecture = fit(open_architecture("falcon_h1_mini"), task)
    made = plan_step(architecture, task, spec, measure=False)
    closing = [place for place, name in enumerate(made.names) if name.endswith("closes")]
    point = point_of(made.choices, [(place, place) for place in closing])
    step = training_step(build(architecture, task.input_type(), seed=0), task, spec)
    plain = measured_peak(step)
    apply(step.model, made.plan(point))
    assert closing and measured_peak(step) == plain
    assert point.peak_bytes == made.plain.peak_bytes == plain


def test_runs_of_several_beat_single_components() -> None:
    nodes = ", ".join(f"{{id: n{index}, use: linear}}" for index in range(8))
    slow = Roofline(1e9, (Bandwidth(1 << 40, 1e9),), 1e-6, "slow")
    made = planner(loads(text(nodes)), batch=16, length=64, roofline=slow)
    least = made.points()[0]
    assert any(len(run) > 1 for run in least.recompute)
