"""Small trainings on several questions about digits, for the tests of several tasks."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.tasks.registry import fit
from hybridlab.tasks.several import SeveralTasks
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.training.several import SeveralObjective, objective
from hybridlab.training.spec import TrainSpec

NODES = ["use: attention, heads: 2, causal: false", "use: swiglu"]
MOE = ["use: attention, heads: 2, causal: false", "use: moe, experts: 3, top_k: 1"]
IMAGE = {"form": "image"}


def settings(**changes: Any) -> dict[str, Any]:
    """Return a short training on three questions about digits as images; ``tasks`` are laid over."""
    tasks = {
        "of": [
            {"task": "digits_image"},
            {"task": "digits_parity", "task_params": IMAGE},
            {"task": "digits_strokes", "task_params": IMAGE},
        ],
        **changes.pop("tasks", {}),
    }
    return {
        "task": "digits_image",
        "tasks": tasks,
        "steps": 12,
        "batch": 6,
        "learning_rate": 1e-2,
        "warmup_steps": 3,
        "eval_every": 6,
        "checkpoint_every": 4,
        "device": "cpu",
        **changes,
    }


def several(
    *nodes: str, seed: int = 0, **changes: Any
) -> tuple[GraphModel, SeveralTasks, TrainSpec]:
    what, spec = prepare(settings(**changes))
    assert isinstance(what, SeveralTasks)
    body = "".join(f"  - {{{node}}}\n" for node in nodes or NODES)
    fitted = fit(loads(f"name: tiny\nwidth: 8\nnodes:\n{body}"), what)
    return build(fitted, what.input_type(), seed=seed), what, spec


def goal_of(model: GraphModel, what: SeveralTasks, spec: TrainSpec) -> SeveralObjective:
    made = objective(model, what, spec, numerics(spec))
    assert isinstance(made, SeveralObjective)
    return made
