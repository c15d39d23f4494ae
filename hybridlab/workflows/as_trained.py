"""Lets a model run its step as a training with the same settings does: by a plan, fused, tuned, mixed, or as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import program
from hybridlab.hardware.devices import choose
from hybridlab.planning.fusion.apply import fuse
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.planner import arrange
from hybridlab.planning.precision.apply import check_products, mix
from hybridlab.planning.precision.record import Precisions
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Plan
from hybridlab.planning.tuning.apply import tune
from hybridlab.planning.tuning.record import Tuning
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec


def as_trained(model: GraphModel, spec: TrainSpec) -> None:
    """Apply the plan, the fusion, the tuning and the precisions of a training's settings to its model.

    Raises:
        RunError: one was made for another architecture, kind of device or format, does not go with another one, or
            cannot be read.
    """
    if spec.plan is not None:
        apply(model, Plan.read(spec.plan), choose(spec.device))
    _changed(model, spec)


def arranged(spec: TrainSpec) -> Callable[[nn.Module], object] | None:
    """Return what does the same to a model that is traced on fake tensors; None where there is nothing to do."""
    if not _given(spec):
        return None
    return functools.partial(_arranged, spec)


def told(spec: TrainSpec) -> tuple[str, ...]:
    """Say what of a profile does not take a plan, a fusion or the like into account; nothing where there is none."""
    names = _given(spec)
    if not names:
        return ()
    both = " and ".join(names)
    return (
        f"the step runs with the {both} of its settings, and so does what is predicted of its memory and operators; "
        "the predicted time, and times by class and by size of input, are of the step without",
    )


def _arranged(spec: TrainSpec, model: nn.Module) -> None:
    assert isinstance(model, GraphModel)
    if spec.plan is not None:
        plan, names = Plan.read(spec.plan), program(model).names
        arrange(plan.spans(model.architecture.fingerprint, names), plan.away(names), model)
    _changed(model, spec)


def _changed(model: GraphModel, spec: TrainSpec) -> None:
    """Change how components compute, as the settings say."""
    fusion = None if spec.fusion is None else Fusion.read(spec.fusion)
    if fusion is not None:
        fuse(model, fusion)
    if spec.tuning is not None:
        tune(model, Tuning.read(spec.tuning))
    if spec.precisions is not None:
        precisions, where = Precisions.read(spec.precisions), numerics(spec)
        if fusion is not None:
            check_products(model, precisions, fusion.products)
        within = "float32" if where.dtype is None else str(where.dtype).removeprefix("torch.")
        mix(model, precisions, within=within, device=where.device)


def _given(spec: TrainSpec) -> list[str]:
    return [name for name in MEASURED if getattr(spec, name) is not None]
