"""Lets a model run its step as a training with the same settings does: by a plan, fused, tuned, or as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import program
from hybridlab.errors import DeviceError, Problem, RunError
from hybridlab.hardware.devices import choose
from hybridlab.planning.fusion.apply import fuse
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.planner import arrange
from hybridlab.planning.pools.apply import Pooled, pool
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Plan
from hybridlab.planning.tuning.apply import tune
from hybridlab.planning.tuning.record import Tuning
from hybridlab.runs.allocator import ALLOCATOR_VARIABLE, allocator_in_force
from hybridlab.training.spec import TrainSpec


def as_trained(model: GraphModel, spec: TrainSpec) -> Pooled | None:
    """Apply the plan, the fusion, the tuning and the memory pools of a training's settings to its model.

    Return its pools, None where there are none.

    Raises:
        RunError: one was made for another architecture or kind of device, or cannot be read.
        SpecError: a pool takes no component, or two have one name.
        DeviceError: there are memory pools or settings of the allocator, and the device has neither.
    """
    if spec.plan is not None:
        apply(model, Plan.read(spec.plan), choose(spec.device))
    if spec.fusion is not None:
        fuse(model, Fusion.read(spec.fusion))
    if spec.tuning is not None:
        tune(model, Tuning.read(spec.tuning))
    if spec.allocator is None and not spec.pools:
        return None
    device = choose(spec.device)
    if spec.allocator is not None and device.type == "cpu":
        message = "a CPU has no allocator of torch's: each tensor comes from the system"
        fix = "leave allocator out on this device"
        raise DeviceError(Problem("allocator", message, "a GPU", str(device), fix))
    return pool(model, spec.pools, device)


def allocator_said(spec: TrainSpec) -> str:
    """Say that this process was not born with the allocator's settings; nothing where it was, or there are none."""
    if spec.allocator is None or allocator_in_force() == spec.allocator.text():
        return ""
    return (
        "torch reads the allocator's settings once, when a process begins, and this one began without them; start it "
        f"with {ALLOCATOR_VARIABLE}={spec.allocator.text()}"
    )


def allocator_in_effect(spec: TrainSpec) -> None:
    """Refuse to train in a process that was not born with the settings of the allocator.

    Raises:
        RunError: it was not; a run that is queued gets a process of its own, which is.
    """
    if said := allocator_said(spec):
        raise RunError(Problem("allocator", said))


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
    """Say what of a profile does not take a plan, a fusion, a tuning or the allocator's settings into account."""
    given = {"plan": spec.plan, "fusion": spec.fusion, "tuning": spec.tuning}
    names = [name for name, there in given.items() if there]
    notes = (said,) if (said := allocator_said(spec)) else ()
    if not names:
        return notes
    both = " and ".join(names)
    return (
        *notes,
        f"the step runs with the {both} of its settings, and so does what is predicted of its memory and operators; "
        "the predicted time, and times by class and by size of input, are of the step without",
    )
