"""What a design costs for the batch that it is trained with, predicted: a value of each objective that can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hybridlab.architecture.infer import infer
from hybridlab.architecture.spec import Architecture
from hybridlab.search.decided import Decided
from hybridlab.search.space import Value
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
    decided: Decided | None = None,
    design: Mapping[str, Value] | None = None,
) -> dict[str, float] | None:
    """Return the predicted objectives of an architecture with the task's input and head; None where it cannot be built.

    Where a ``design`` has decided how it is trained, peaks are those of its whole step, traced with its plan, in its
    format and fused as it is; times are the planner's, and where other decisions vary there are none.
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
    own = dict(design or {})
    if decided and (decided.plans or "peak_bytes" in names):
        step = decided.step(fitted, own)
        if step is None:
            return None
        peak_bytes, step_ms = float(step[0]), step[1] or step_ms
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
    if "peak_inference_bytes" in names and decided:
        told["peak_inference_bytes"] = float(decided.forward_bytes(fitted, own))
    elif "peak_inference_bytes" in names:
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
