"""What a design costs for the batch that it is trained with, predicted: a value of each objective that can be."""

from __future__ import annotations

from collections.abc import Collection

from hybridlab.architecture.infer import infer
from hybridlab.architecture.spec import Architecture
from hybridlab.search.planned import NONE, Plans
from hybridlab.tasks.base import Task
from hybridlab.trace.exact import predict_stream
from hybridlab.trace.predict import predict, runs_of
from hybridlab.training.spec import TrainSpec


def prices(
    fitted: Architecture,
    task: Task,
    training: TrainSpec,
    names: Collection[str],
    *,
    plans: Plans | None = None,
    budget: str = NONE,
) -> dict[str, float] | None:
    """Return the predicted objectives of an architecture with the task's input and head; None where it cannot be built.

    With ``plans`` peak and time are those of the fastest plan within the budget, by the planner's account of the step.
    Peaks and state are exact, times are a roofline of this machine's; only ``names`` that take a trace of their own are
    left out where nobody asks for them.

    Raises:
        HybridLabError, ValueError: the architecture is no architecture.
    """
    batch, length = training.batch, task.length
    found = predict(fitted, task.input_type(), batch=batch, length=length)
    if not found.ok:
        return None
    peak_bytes, step_ms = float(found.peak_bytes), found.step_ms
    if plans is not None:
        figures = plans.figures(fitted, budget)
        if figures is None:
            return None
        peak_bytes, step_ms = float(figures.peak_bytes), figures.step_ms
    told = {
        "params": float(found.params),
        "flops_forward": float(found.flops_forward),
        "flops_step": float(found.flops_step),
        "peak_bytes": peak_bytes,
        "activation_bytes": float(found.activation_bytes),
        "step_ms": step_ms,
        "tokens_per_s": 1e3 * batch * length / step_ms,
        "train_s": step_ms * training.steps / 1e3,
    }
    if "state_bytes_per_token" in names:
        told["state_bytes_per_token"] = state_bytes(fitted, task) / length
    if "peak_inference_bytes" in names:
        stream = predict_stream(
            fitted, task.input_type(), batch=batch, length=length, training=False
        )
        told["peak_inference_bytes"] = float(stream.peak_bytes)
    return told


def state_bytes(fitted: Architecture, task: Task) -> float:
    """Return the bytes that one sequence of the task's length leaves to go on from: caches and states, in float32."""
    inference = infer(fitted, task.input_type())
    uses = runs_of(fitted, inference.slots)
    return sum(
        uses[path]
        * (
            plan.info.cls.state_bytes_per_token(plan.params, plan.context) * task.length
            + plan.info.cls.state_bytes(plan.params, plan.context)
        )
        for path, plan in inference.slots.items()
    )
