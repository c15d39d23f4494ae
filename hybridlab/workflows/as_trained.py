"""Lets a model run its step as a training with the same settings does: by what was measured to be better, or plain."""

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
from hybridlab.planning.precision.apply import check_products, mix
from hybridlab.planning.precision.record import Precisions
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Plan
from hybridlab.planning.regions.apply import compile_regions
from hybridlab.planning.regions.record import Regions
from hybridlab.planning.tuning.apply import tune
from hybridlab.planning.tuning.record import Tuning
from hybridlab.runs.allocator import ALLOCATOR_VARIABLE, allocator_in_force
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec


def as_trained(
    model: GraphModel, spec: TrainSpec, say: Callable[[str], object] = lambda text: None
) -> Pooled | None:
    """Apply what a training's settings were measured to do better, such as a plan, and its memory pools, to its model.

    Return its pools, None where there are none. Regions are compiled in the model's first step; ``say`` hears of each,
    and of those that stay as they are.

    Raises:
        RunError: one was made for another architecture, kind of device or format, does not go with another one, or
            cannot be read.
        SpecError: a pool takes no component, or two have one name.
        DeviceError: there are memory pools or settings of the allocator, and the device has neither.
    """
    if spec.plan is not None:
        apply(model, Plan.read(spec.plan), choose(spec.device))
    _changed(model, spec)
    if spec.regions is not None:
        compile_regions(model, Regions.read(spec.regions), choose(spec.device), spec.batch, say)
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
    """Return what does the same to a model that is traced on fake tensors; None where there is nothing to do.

    Nothing is compiled there: what is traced of regions is what they compute as they are.
    """
    if not _given(spec):
        return None
    return functools.partial(_arranged, spec)


def told(spec: TrainSpec) -> tuple[str, ...]:
    """Say what of a profile does not take a plan, buckets, regions or the allocator's settings into account."""
    names = _given(spec)
    notes: tuple[str, ...] = (said,) if (said := allocator_said(spec)) else ()
    if spec.buckets:
        notes += (
            "the training sorts its batches by length; the step here is of one that is padded to the longest sample, "
            "and reads its padding",
        )
    if spec.regions is not None:
        notes += (
            "the step runs with the regions of its settings compiled; all that is predicted, and operators where they "
            "are recorded one by one, are of the step as it is",
        )
    if not names:
        return notes
    both = " and ".join(names)
    return (
        *notes,
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
    """Name what changes the step that is traced: all but regions, which compute the same in fewer kernels."""
    return [n for n in MEASURED if n != "regions" and getattr(spec, n) is not None]
