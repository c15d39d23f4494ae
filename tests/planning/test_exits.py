"""Steps of networks with early exits: planned, measured and trained, they have the same losses."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.planning.budgets.forms import measure_forms
from hybridlab.planning.measure import measure_plan, measured_peak
from hybridlab.planning.training_step import plan_step
from hybridlab.tasks.registry import fit
from hybridlab.trace.attribution import Attribution
from hybridlab.training.defaults import prepare
from hybridlab.training.objective import Objective
from hybridlab.training.precision import numerics
from hybridlab.workflows.profile import training_step

DESIGN = """
name: leaving
width: 32
nodes:
  - {use: attention, heads: 4}
  - {use: swiglu}
  - {id: early, use: early_exit, outputs: 10, loss_weight: 3.0}
  - {use: mamba2, state: 16, heads: 4}
  - {use: mlp}
"""


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_planned_is_what_is_measured_and_what_is_trained(parts: int) -> None:
    task, spec = prepare(
        {"task": "digits_sequence", "batch": 8, "device": "cpu", "accumulation": parts}
    )
    architecture = fit(loads(DESIGN), task)
    made = plan_step(architecture, task, spec, measure=False)
    model = build(architecture, task.input_type(), seed=0)
    step = training_step(model, task, spec)
    assert measured_peak(step) == pytest.approx(made.plain.peak_bytes, rel=0.02)
    plan = made.points()[0]  # the least memory
    measured, _ = measure_plan(step, plan, steps=3)
    assert plan.recompute
    # Gradients of the exit and of what follows are added in place; traced, they stand side by side.
    most = plan.predicted.peak_bytes
    assert 0.95 * most <= measured.peak_bytes <= 1.001 * most

    def gradients() -> list[Tensor]:
        found = [p.grad.clone() for p in step.parameters if p.grad is not None]
        model.zero_grad(set_to_none=True)
        return found

    seen: list[Tensor] = []
    bare = dataclasses.replace(step, optimiser=None)
    bare.run(Attribution({}), after_backward=lambda: seen.extend(gradients()))
    data = task.train_batch(0, spec.batch, spec.seed)
    Objective(model, task, numerics(spec)).add_gradients(data, parts)
    trained = gradients()
    model.running = None
    Objective(model, task, numerics(spec)).add_gradients(data, parts)
    plain = gradients()
    assert len(seen) == len(trained) == len(plain)
    assert all(map(torch.equal, trained, plain)), "computed again, bit for bit"
    assert all(
        torch.allclose(*pair, rtol=1e-4, atol=1e-6) for pair in zip(seen, trained, strict=True)
    )


def test_components_compiled_one_by_one_do_not_see_the_loss_on_the_way() -> None:
    task, spec = prepare({"task": "digits_sequence", "batch": 4, "device": "cpu"})
    architecture = fit(loads(DESIGN), task)
    step = training_step(build(architecture, task.input_type(), seed=0), task, spec)
    with pytest.raises(RunError, match=r"early: has a loss of its own on the way"):
        measure_forms(step)
