"""From the settings a person names to a task and a complete spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hybridlab.errors import Problem, SpecError, TaskError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task as make_task
from hybridlab.tasks.several import Part, SeveralTasks
from hybridlab.training.spec import TrainSpec, make
from hybridlab.validation import join_path


def prepare(settings: Mapping[str, Any]) -> tuple[Task, TrainSpec]:
    """Return the task and the spec of settings; what they leave out comes from the task, then from ``TrainSpec``.

    Of several tasks it comes from the first.

    Raises:
        SpecError: a setting is unknown, of the wrong type or out of range.
        TaskError: a task is unknown, a parameter of it is wrong, or several tasks cannot be learnt together.
    """
    name, params = settings.get("task"), settings.get("task_params") or {}
    if not isinstance(name, str):
        raise SpecError(Problem("task", "is missing", "the name of a task", fix="add it"))
    if not isinstance(params, Mapping) or not all(isinstance(key, str) for key in params):
        raise SpecError(Problem("task_params", "has the wrong type", "a mapping of parameters"))
    task = make_task(name, **params)
    spec = make(settings, task.default_training())
    return (task if spec.tasks is None else task_of(spec)), spec


def task_of(spec: TrainSpec) -> Task:
    """Return the task of a spec, or its several tasks as one.

    Raises:
        TaskError: a task is unknown, a parameter of it is wrong, or several tasks cannot be learnt together.
    """
    several = spec.tasks
    if several is None:
        return make_task(spec.task, **spec.task_params)
    parts: list[Part] = []
    problems: list[Problem] = []
    for place, part in enumerate(several.of):
        try:
            made = make_task(part.task, **part.task_params)
        except TaskError as error:
            here = f"tasks.of[{place}]"
            problems += [replace(one, path=join_path(here, one.path)) for one in error.problems]
        else:
            parts.append(Part(part.called, made, part.head, part.weight, part.size))
    if problems:
        raise TaskError(problems)
    made = SeveralTasks(parts, several.sampling, several.temperature, several.main)
    if spec.target is not None and len({part.task.measure for part in parts}) > 1:
        problem = Problem(
            "target",
            "cannot be one number for tasks that are scored in different measures",
            fix="leave it out",
        )
        raise TaskError(problem)
    if several.sampling == "each" and spec.batch < spec.accumulation * len(parts):
        problem = Problem(
            "batch",
            f"has not one sample of each of {len(parts)} tasks in each of {spec.accumulation} parts",
            f"at least {spec.accumulation * len(parts)}",
            str(spec.batch),
        )
        raise TaskError(problem)
    return made
