"""What a step on several tasks takes, predicted: the trunk once, every head, and a gradient for each task where asked.

Balancing by gradients (GradNorm, PCGrad, CAGrad) goes back through the trunk once for each task that answers the same
inputs, and holds every task's gradient at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.heads import need_no_reader
from hybridlab.architecture.reached import heads_reached
from hybridlab.architecture.spec import Architecture
from hybridlab.tasks.fit import kind_of
from hybridlab.tasks.fit_several import heads_of
from hybridlab.tasks.several import SeveralTasks
from hybridlab.trace.predict import Prediction, predict, runs_of
from hybridlab.training.component_metrics import over_repeats
from hybridlab.training.several_spec import OF_GRADIENTS, SeveralSpec

_FLOAT32_BYTES = 4


def several_cost(
    architecture: Architecture, task: SeveralTasks, spec: SeveralSpec, batch: int
) -> dict[str, Any]:
    """Return the predicted cost of a step on ``batch`` samples, as ``Prediction.as_dict`` has it.

    ``architecture`` has its input and all heads, as ``fit`` returns it. Where tasks share a batch out evenly, each
    sample goes forward once, whoever asks for it; so it does where one task has the whole batch.
    """
    whole = predict(architecture, task.input_type(), batch=batch, length=task.length)
    more_ms = more_flops = held = 0.0
    if spec.balancing in OF_GRADIENTS:
        tasks = _tasks_behind(architecture, task, whole)
        held = sum(one.params * tasks[one.path] for one in whole.components)
        if spec.sampling == "joint":
            more_ms, more_flops = _again(architecture, whole, tasks)
    problems = need_no_reader(whole.problems, architecture, kind_of)
    return {
        **whole.as_dict(),
        "step_ms": whole.step_ms + more_ms,
        "flops_step": round(whole.flops_step + more_flops),
        "peak_bytes": round(whole.peak_bytes + _FLOAT32_BYTES * held),
        "problems": [problem.as_dict() for problem in problems],
    }


def _tasks_behind(
    architecture: Architecture, task: SeveralTasks, whole: Prediction
) -> Mapping[str, int]:
    """Return to how many tasks' heads each component leads, by its path; at least to one."""
    reached = heads_reached(architecture, heads_of(architecture, task))
    return {
        one.path: max(1, len(reached.get(over_repeats(one.path), ()))) for one in whole.components
    }


def _again(
    architecture: Architecture, whole: Prediction, tasks: Mapping[str, int]
) -> tuple[float, float]:
    """Return the milliseconds and FLOPs of going back through what several tasks share once for each but the first."""
    runs = runs_of(architecture, [one.path for one in whole.components])
    ms = flops = 0.0
    for one in whole.components:
        backward = one.flops_step - one.flops
        times = (tasks[one.path] - 1) * runs[one.path]
        flops += times * backward
        ms += times * one.ms * (backward / one.flops_step if one.flops_step else 2 / 3)
    return ms, flops
