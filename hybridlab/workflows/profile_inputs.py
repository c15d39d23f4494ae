"""Runs an architecture forward on classes and sizes of its task's test inputs: what changes with the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridlab.architecture.spec import Architecture
from hybridlab.profiling.classes import ByClass, measure_classes
from hybridlab.profiling.sizes import BySize, measure_sizes, usual_sizes
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.workflows.profile import built


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
