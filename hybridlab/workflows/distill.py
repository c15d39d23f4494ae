"""A training with a teacher, around the loop: what is checked before it is queued, and what was kept and saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.base import Task
from hybridlab.trace.predict import predict
from hybridlab.training.evaluation import evaluate
from hybridlab.training.pairs import paired, suggestion
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.teacher import find_teacher, settled

FLOAT32_BYTES = 4


def taught(spec: TrainSpec, student: Architecture, task: Task) -> TrainSpec:
    """Return settings whose teacher is found and fits: the run by its id, files whole, the map of components in full.

    ``student`` has its input and its head. Settings without a teacher come back as they are.

    Raises:
        SpecError: the teacher is not there or does not fit, components cannot be compared, or a phase begins too late.
    """
    if spec.teacher is None:
        return spec
    asked = settled(spec.teacher, task)
    if late := [place for place, at in enumerate(asked.begins()) if at >= spec.steps]:
        raise SpecError(
            Problem(
                f"teacher.phases[{late[0]}]",
                f"begins after step {asked.begins()[late[0]]:,}, which is never reached",
                "phases that begin before the training ends",
                f"{spec.steps:,} steps",
                "shorten the phases before it, or train longer",
            )
        )
    # Raises where the file is not this architecture's; a student is only looked at.
    theirs = find_teacher(asked, task).build(task, "cpu")
    own = build(student, task.input_type(), device="meta")
    pairs = paired(theirs, own, asked)
    if pairs and not asked.layers:
        there = {(pair.teacher.path, pair.student.path) for pair in pairs}
        layers = [one for one in suggestion(theirs, own) if (one.teacher, one.student) in there]
        asked = asked.model_copy(update={"layers": tuple(layers)})
    return spec.model_copy(update={"teacher": asked})


def outcome(
    model: GraphModel, task: Task, spec: TrainSpec, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Return what a student kept of its teacher's quality, and what it saves; ``metrics`` are the student's at the end.

    ``kept`` is the student's test metric over the teacher's (the other way round where less is better), so that 1 is as
    good as the teacher. ``saved`` are shares of the teacher's: 0.75 is a quarter of it. Costs are predicted for this
    machine: FLOPs of a sample's forward, bytes of weights, milliseconds and bytes of one training step.
    """
    assert spec.teacher is not None
    found = find_teacher(spec.teacher, task)
    where = numerics(spec)
    teacher = found.build(task, where.device)
    with torch.no_grad():
        theirs = evaluate(teacher, task, task.test_splits, where, max(1, spec.batch))
    main = task.metric
    costs = {
        "teacher": _costs(teacher.architecture, task, spec),
        "student": _costs(model.architecture, task, spec),
    }
    own = metrics.get(main)
    return {
        "teacher": {
            "run": found.run,
            "architecture": teacher.architecture.name,
            "metrics": theirs,
            **costs["teacher"],
        },
        "student": {"metrics": {name: metrics[name] for name in theirs if name in metrics}}
        | costs["student"],
        "metric": main,
        "higher_is_better": task.higher_is_better,
        "kept": kept(own, theirs[main], higher_is_better=task.higher_is_better),
        "saved": {
            name: 1 - costs["student"][name] / costs["teacher"][name]
            for name in costs["teacher"]
            if costs["teacher"][name]
        },
    }


def kept(student: float | None, teacher: float, *, higher_is_better: bool) -> float | None:
    """Return the share of a teacher's quality that a student keeps; None where it cannot be said."""
    if student is None:
        return None
    above, below = (student, teacher) if higher_is_better else (teacher, student)
    return above / below if below else None


def _costs(architecture: Architecture, task: Task, spec: TrainSpec) -> dict[str, float]:
    """Return what a network is predicted to take on a task, with the batch of a training."""
    found = predict(architecture, task.input_type(), batch=spec.batch, length=task.length)
    return {
        "params": found.params,
        "weight_bytes": FLOAT32_BYTES * found.params,
        "flops_per_sample": found.flops_per_sample,
        "step_ms": found.step_ms,
        "step_bytes": found.peak_bytes,
    }
