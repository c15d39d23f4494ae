"""Runs an architecture forward on classes and sizes of its task's test inputs: what changes with the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError
from hybridlab.profiling.classes import ByClass, measure_classes
from hybridlab.profiling.record import Profile
from hybridlab.profiling.sizes import BySize, measure_sizes, usual_sizes
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.workflows.profile import built, profile_any


def with_inputs(
    found: Profile,
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    by_input: bool = False,
    by_size: bool = False,
    lengths: Sequence[int] = (),
    batches: Sequence[int] = (),
) -> Profile:
    """Return a profile with what was asked for of classes and sizes of input; lengths or batches ask for sizes too.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: a size is out of range.
    """
    if by_input:
        found = replace(found, by_input=profile_classes(architecture, settings))
    if by_size or lengths or batches:
        sizes = profile_sizes(architecture, settings, lengths=lengths, batches=batches)
        found = replace(found, by_size=sizes)
    return found


def profile_with_inputs(
    subject: Architecture | nn.Module,
    batch: Any,
    asked: Mapping[str, Any],
    *,
    task: str | None = None,
    **options: Any,
) -> Profile:
    """Profile as ``profile_any`` does; ``asked`` is what ``with_inputs`` is to add, on the task's own inputs.

    Raises:
        RunError: inputs are asked for and there is no task, or no architecture to fit one.
    """
    inputs = any(map(bool, asked.values()))
    if inputs and (task is None or not isinstance(subject, Architecture)):
        raise RunError(
            Problem(
                "task",
                "is missing",
                "a task and an architecture: classes and sizes are of its inputs",
            )
        )
    found = profile_any(subject, batch, task=task, **options)
    if not inputs or not isinstance(subject, Architecture):
        return found
    settings = {"task": task, **({"batch": batch} if batch is not None else {})}
    return with_inputs(found, subject, settings, **asked)


def profile_classes(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    weights: Path | None = None,
    on_round: Callable[[int], object] = lambda number: None,
) -> ByClass:
    """Run an architecture forward on each class of its task's test inputs; see ``profiling.classes``.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: the weights are another architecture's.
    """
    chosen, spec = prepare(settings)
    where = numerics(spec)
    model = built(fit(architecture, chosen), chosen, spec, weights).to(where.device)
    return measure_classes(model, chosen, on_round=on_round)


def profile_sizes(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    lengths: Sequence[int] = (),
    batches: Sequence[int] = (),
    weights: Path | None = None,
    on_size: Callable[[int], object] = lambda number: None,
) -> BySize:
    """Run an architecture forward at several lengths and batches; see ``profiling.sizes``.

    Without lengths these are half, all and twice the task's own; without batches one sample and the training's batch.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: a size is out of range, or the weights are another architecture's.
    """
    chosen, spec = prepare(settings)
    where = numerics(spec)
    model = built(fit(architecture, chosen), chosen, spec, weights).to(where.device)
    usual = usual_sizes(chosen, spec.batch)
    return measure_sizes(
        model,
        chosen,
        lengths=lengths or usual[0],
        batches=batches or usual[1],
        on_size=on_size,
    )
