"""Finds every task by importing the files beside this one, and tells what each is."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

import hybridlab.tasks
from hybridlab.components.base import nearest
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Task, registered
from hybridlab.tasks.fit_several import fit
from hybridlab.validation import problems_from

__all__ = ["catalogue", "fit", "task", "tasks"]
_REAL_FIRST = ("digits_sequence", "digits_image", "python_bytes")


@functools.cache
def tasks() -> Mapping[str, type[Task]]:
    """Return every task by name, real data first."""
    for module in pkgutil.iter_modules(hybridlab.tasks.__path__, hybridlab.tasks.__name__ + "."):
        importlib.import_module(module.name)
    known = registered()
    order = [name for name in _REAL_FIRST if name in known]
    order += sorted(name for name in known if name not in order)
    return MappingProxyType({name: known[name] for name in order})


def task(name: str, **params: Any) -> Task:
    """Make a task.

    Raises:
        TaskError: there is no task of that name, or its parameters are not right; it holds every problem.
    """
    cls = tasks().get(name)
    if cls is None:
        problem = Problem(
            "task", "unknown task", "one of the tasks", repr(name), nearest(name, list(tasks()))
        )
        raise TaskError(problem)
    try:
        return cls(cls.Params.model_validate(params))
    except ValidationError as error:
        known = list(cls.Params.model_fields)
        raise TaskError(problems_from(error, "task_params", known=known)) from None


def catalogue() -> list[dict[str, Any]]:
    """Return every task, with default parameters, as plain JSON for pages, forms and the command line."""
    entries = []
    for name, cls in tasks().items():
        made = task(name)
        entries.append(
            {
                "name": name,
                "title": cls.title,
                "summary": cls.summary,
                "source": cls.source,
                "tests": cls.tests,
                "metric": made.metric,
                "measure": made.measure,
                "unit": made.unit,
                "val_metrics": [made.metric_name(split) for split in made.val_splits],
                "test_metrics": [made.metric_name(split) for split in made.test_splits],
                "higher_is_better": made.higher_is_better,
                "params_schema": cls.Params.model_json_schema(),
                "baselines": _baselines(made),
                "default_training": cls.default_training(),
                "input_node": made.input_node(),
                "head_node": made.head_node(),
                "input_kind": str(made.input_type().kind),
                "input_shape": list(made.input_type().shape),
                "output_shape": list(made.output_type().shape),
                "needs_causal": cls.needs_causal,
                "length": made.length,
            }
        )
    return entries


def _baselines(made: Task) -> dict[str, float]:
    """Return a task's baselines; none where its data is missing, which whoever uses it is told then."""
    try:
        return made.baselines()
    except TaskError:
        return {}
