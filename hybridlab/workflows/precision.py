"""Chooses number formats for single components of a training's model, where they are measured to be better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.precision.measure import (
    LOSS_TOLERANCE,
    TOLERANCE,
    PrecisionReport,
    choose_precisions,
)
from hybridlab.planning.precision.record import Format
from hybridlab.planning.turns import ROUNDS
from hybridlab.workflows.one_step import one_step


def measure_precisions(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool = False,
    memory: bool = False,
    format: str | None = None,
    tolerance: float = TOLERANCE,
    loss_tolerance: float = LOSS_TOLERANCE,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> PrecisionReport:
    """Measure components in another number format, on the first batch of a training; see ``choose_precisions``.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of another step is left out.
        training: whether it is for the training step; else for the pass forward in evaluation mode.
        memory: whether it is for fewer bytes kept in training steps, rather than for less time.
        format: float32, bfloat16 or float16; bfloat16 where nothing is said, or float32 in a step that has another one.
        tolerance: largest relative difference of gradients, or of the output forward, from float32.
        loss_tolerance: the same of the loss.
        rounds: how many turns are timed, fewer where they take long.
        on_part: hears before each part how many of how many are done.

    Raises:
        SpecError: the architecture, a setting or an option is wrong, or the settings say what has no one step.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device, or it does not have the format.
    """
    _check(format, {"tolerance": tolerance, "loss_tolerance": loss_tolerance})
    step = one_step(architecture, settings, training=True, verb="measure")
    assert step.loss is not None
    loss = step.loss
    if not (training or memory):
        step = replace(step, loss=None, optimiser=None)
    return choose_precisions(
        step,
        loss,
        format=format,  # type: ignore[arg-type]
        memory=memory,
        tolerance=tolerance,
        loss_tolerance=loss_tolerance,
        rounds=rounds,
        on_part=on_part,
    )


def _check(format: str | None, tolerances: Mapping[str, Any]) -> None:
    """Refuse formats that are none, and tolerances out of range.

    Raises:
        SpecError: it names all of them.
    """
    problems = []
    if format is not None and format not in get_args(Format):
        problems.append(Problem("format", "is unknown", ", ".join(get_args(Format)), str(format)))
    for name, value in tolerances.items():
        if not (isinstance(value, int | float) and 0 < value <= 1):
            problems.append(Problem(name, "is out of range", "above 0, at most 1", str(value)))
    if problems:
        raise SpecError(problems)
