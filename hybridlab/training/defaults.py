"""From the settings a person names to a task and a complete spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task as make_task
from hybridlab.training.spec import TrainSpec, make


def prepare(settings: Mapping[str, Any]) -> tuple[Task, TrainSpec]:
    """Return the task and the spec of settings; what they leave out comes from the task, then from ``TrainSpec``.

    Raises:
        SpecError: a setting is unknown, of the wrong type or out of range.
        TaskError: the task is unknown, or a parameter of it is wrong.
    """
    name, params = settings.get("task"), settings.get("task_params") or {}
    if not isinstance(name, str):
        raise SpecError(Problem("task", "is missing", "the name of a task", fix="add it"))
    if not isinstance(params, Mapping) or not all(isinstance(key, str) for key in params):
        raise SpecError(Problem("task_params", "has the wrong type", "a mapping of parameters"))
    task = make_task(name, **params)
    return task, make(settings, task.default_training())
