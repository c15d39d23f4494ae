"""Lets a model run its step as a training with the same settings does: by a plan, fused, tuned, or as it is."""

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
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Plan
from hybridlab.planning.tuning.apply import tune
from hybridlab.planning.tuning.record import Tuning
from hybridlab.training.spec import TrainSpec


def as_trained(model: GraphModel, spec: TrainSpec) -> None:
    """Apply the plan, the fusion and the tuning of a training's settings to its model.

    Raises:
        RunError: one was made for another architecture or kind of device, or cannot be read.
    """
    if spec.plan is not None:
        apply(model, Plan.read(spec.plan), choose(spec.device))
    if spec.fusion is not None:
        fuse(model, Fusion.read(spec.fusion))
    if spec.tuning is not None:
        tune(model, Tuning.read(spec.tuning))


def arranged(spec: TrainSpec) -> Callable[[nn.Module], object] | None:
    """Return what does the same to a model that is traced on fake tensors; None where there is nothing to do."""
    if spec.plan is None and spec.fusion is None and spec.tuning is None:
        return None
    return functools.partial(_arranged, spec)


def _arranged(spec: TrainSpec, model: nn.Module) -> None:
    assert isinstance(model, GraphModel)
    if spec.plan is not None:
        plan, names = Plan.read(spec.plan), program(model).names
        arrange(plan.spans(model.architecture.fingerprint, names), plan.away(names), model)
    if spec.fusion is not None:
        fuse(model, Fusion.read(spec.fusion))
    if spec.tuning is not None:
        tune(model, Tuning.read(spec.tuning))


def told(spec: TrainSpec) -> tuple[str, ...]:
    """Say what of a profile does not take a plan, a fusion, a tuning or buckets into account; nothing without any."""
    if spec.buckets:  # which none of the others stands beside
        return (
            "the training sorts its batches by length; the step here is of one that is padded to the longest sample, "
            "and reads its padding",
        )
    given = {"plan": spec.plan, "fusion": spec.fusion, "tuning": spec.tuning}
    names = [name for name, there in given.items() if there]
    if not names:
        return ()
    both = " and ".join(names)
    return (
        f"the step runs with the {both} of its settings, and so does what is predicted of its memory and operators; "
        "the predicted time, and times by class and by size of input, are of the step without",
    )
