"""Batches that do not fit into memory: foreseen on a CPU, where the system would kill the process, and explained."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import sys
from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn

from hybridlab.errors import DeviceError, Problem
from hybridlab.hardware import devices
from hybridlab.tasks.base import Task
from hybridlab.training.objective import Objective
from hybridlab.training.precision import Numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.units import format_bytes

_HEADROOM = 0.8
"""Share of the free memory that a suggested batch may take."""
_TIMES_KEPT = 2.0
"""What a suggested batch is given for each byte that a forward keeps: those bytes, gradients and scratch."""


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that this process can still get on a device, its own limits included; None where unknown."""
    free = devices.free_bytes(device)
    if device.type == "cpu" and sys.platform != "win32" and free is not None:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            free = min(free, max(0, soft - psutil.Process().memory_info().vms))
    return free


def bytes_per_sample(
    model: nn.Module,
    task: Task,
    numerics: Numerics,
    seed: int,
    objective: Objective | None = None,
) -> float:
    """Return the bytes that a forward keeps for each sample, measured on one and on two samples.

    With an objective, those of all that it makes small and of what it takes beside, such as a teacher's forward.
    Leaves weights, buffers and random states as they were.
    """
    objective = objective or Objective(model, task, numerics)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [] if numerics.device.type == "cpu" else [numerics.device]
    with torch.random.fork_rng(devices=devices, device_type=numerics.device.type):
        one, two = (_kept_bytes(objective, seed, samples) for samples in (1, 2))
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    sample = task.train_batch(0, 1, seed)
    own = sample.inputs.nbytes + sample.targets.nbytes
    return own + max(two - one, two / 4)


def _kept_bytes(objective: Objective, seed: int, samples: int) -> int:
    """Return the bytes that a forward keeps."""
    batch = objective.task.train_batch(0, samples, seed).to(objective.numerics.device)
    total = kept_bytes(lambda: objective.foreseen(batch), objective.model)
    return total + objective.bytes_beside(batch)


def kept_bytes(forward: Callable[[], object], model: nn.Module, *there: Tensor) -> int:
    """Run a forward and return the bytes that it keeps for a backward, but for weights, buffers and what is ``there``.

    Autograd is handed nothing to keep, as no backward follows: a result that its own operation keeps through a hook
    would never be let go. What it would keep is held here, so that no storage takes the place of an earlier one.
    """
    every = (*model.parameters(), *model.buffers(), *there)
    weights = {p.untyped_storage().data_ptr() for p in every}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(keep, _not_kept):
        forward()
    total = sum(storage.nbytes() for storage in kept.values())
    kept.clear()  # the hooks, and so this, may outlive the call
    return total


def _not_kept(_: None) -> Tensor:
    raise RuntimeError("a forward that is only measured was asked for its backward")


def foresee(
    model: nn.Module,
    task: Task,
    spec: TrainSpec,
    numerics: Numerics,
    objective: Objective | None = None,
) -> None:
    """Refuse a batch that a CPU's memory will not hold, before the system ends the process for it.

    Raises:
        DeviceError: the batch does not fit; it names one that does.
    """
    samples = math.ceil(spec.batch / spec.accumulation)
    if numerics.device.type != "cpu" or samples < 2:
        return
    each = bytes_per_sample(model, task, numerics, spec.seed, objective)
    free = free_bytes(numerics.device)
    if free is not None and each * samples > free:
        raise DeviceError(too_large(spec, each, free, numerics.device))


def explain(
    model: nn.Module,
    task: Task,
    spec: TrainSpec,
    numerics: Numerics,
    objective: Objective | None = None,
) -> DeviceError:
    """Return the error for a batch that ran out of memory, with one that fits; call it when the batch is let go."""
    release(model)
    try:
        each = bytes_per_sample(model, task, numerics, spec.seed, objective)
    except (RuntimeError, MemoryError):
        each = math.inf
    finally:
        release(model)
    return DeviceError(too_large(spec, each, free_bytes(numerics.device), numerics.device))


def too_large(spec: TrainSpec, each: float, free: int | None, device: torch.device) -> Problem:
    """Return the problem of a batch that keeps ``each`` bytes a sample where ``free`` are left, and a way out."""
    samples = math.ceil(spec.batch / spec.accumulation)
    message = f"{samples} samples at once do not fit into the memory of {device}"
    if free is None:
        return Problem("batch", message, fix=f"try batch {max(1, samples // 2)}")
    room = f"{format_bytes(free)} at most"
    if _TIMES_KEPT * each > free * _HEADROOM:
        fix = "not even one sample fits; choose a smaller model or a shorter sequence"
        return Problem("batch", message, room, fix=fix)
    fitting = min(int(free * _HEADROOM / (_TIMES_KEPT * each)), samples - 1)
    fitting = 2 ** int(math.log2(max(1, fitting)))
    parts = math.ceil(spec.batch / fitting)
    fix = f"batch {fitting} fits; or keep batch {spec.batch} and set accumulation to {parts}"
    return Problem("batch", message, room, f"at least {format_bytes(each * samples)}", fix)


def release(model: nn.Module) -> None:
    """Let go of gradients and of memory that is kept for reuse."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it, others need it less
        ctypes.CDLL(None).malloc_trim(0)
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
