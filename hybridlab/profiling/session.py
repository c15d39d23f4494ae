"""Measures a step where it really runs: timed without the profiler, then under it, then once operator by operator.

Three passes, because each would spoil the others: the profiler slows small operators, and following every storage
slows all of them. The passes run the same code on the same batch.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function
from torch.utils._pytree import tree_leaves

from hybridlab.errors import Problem, RunError
from hybridlab.hardware.meters.allocator import Held, forget_peaks, held
from hybridlab.hardware.meters.energy import EnergyAccount
from hybridlab.hardware.meters.here import energy_account
from hybridlab.hardware.meters.meter import NotMeasured
from hybridlab.profiling.gradients import gradient_norms
from hybridlab.profiling.joined import joined
from hybridlab.profiling.medians import Median, median
from hybridlab.profiling.step_energy import StepEnergy, step_energy
from hybridlab.profiling.sweep import STEP, Swept, events_of, sweep
from hybridlab.trace.attribution import Attribution, components_of
from hybridlab.trace.exact import record
from hybridlab.trace.marks import RANGE
from hybridlab.trace.step import TrainingStep
from hybridlab.trace.stream import OpStream

_WARM_UP = 3
_MOST_STEPS = 10_000


@dataclass(frozen=True)
class Measured:
    """What a session found; the parts of a ``Profile`` that are measured."""

    step_ms: Median
    profiled_ms: Median
    swept: Swept
    stream: OpStream
    peak_bytes: int
    memory: pa.Table
    joined: float
    trace: Path | None
    energy: StepEnergy
    grad_norms: dict[str, float]
    allocator: Held | NotMeasured
    """What torch's allocator held of the device after the timed steps, with the peaks over them."""
    kernels_joined: float | None = None
    """The share of the device's time that belongs to an operator of the stream; None where nothing ran on a device."""


OnStage = Callable[[str], object]
"""Hears what is begun: one of ``STAGES``."""
STAGES = ("predict", "calibrate", "time", "profile", "record", "classes", "sizes", "report")
"""What a profile goes through: predictions first, then three measurements, classes and sizes of input, the tables."""


def measure(
    step: TrainingStep,
    *,
    steps: int = 10,
    folder: Path | None = None,
    on_stage: OnStage = lambda stage: None,
    account: EnergyAccount | None = None,
) -> Measured:
    """Run a step again and again and return what each component did; weights change as in training.

    Args:
        step: what to run; its model decides the device.
        steps: how many steps are timed, and how many are profiled.
        folder: where the trace goes, named as TensorBoard's plugin looks for it; none is written without it.
        on_stage: hears what is begun; what it raises ends the measurement.
        account: the energy counters; those of this machine and the model's device by itself.

    Raises:
        RunError: the number of steps is out of range.
    """
    if not 1 <= steps <= _MOST_STEPS:
        raise RunError(Problem("steps", "is out of range", f"1 to {_MOST_STEPS:,}", str(steps)))
    device = device_of(step.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_stage("time")
        forget_peaks(device)
        times = timed(step, steps, device)
        allocator = held(device)
        energy = step_energy(_once(step, device), account or energy_account(device))
        on_stage("profile")
        swept, memory, trace = profiled(step, steps, device, folder)
        on_stage("record")
        grad_norms = gradient_norms(step)
        stream = record(step, "measured")
    stream, timed_share, of_device = joined(stream, swept)
    baseline = resident_bytes(step)
    changes = np.array([size for _, size in memory] or [0])
    return Measured(
        median(times),
        median([ns / 1e6 for ns in swept.step_ns]),
        swept,
        stream,
        baseline + int(np.cumsum(changes).max(initial=0)),
        _memory_table(memory, swept),
        timed_share,
        trace,
        energy,
        grad_norms,
        allocator,
        of_device,
    )


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's first weight lies; the CPU where it has none."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def timed(step: TrainingStep, steps: int, device: torch.device) -> list[float]:
    """Return milliseconds of steps without the profiler, after some that do not count."""
    attribution = Attribution({})
    times = []
    for index in range(_WARM_UP + steps):
        synchronize(device)
        started = time.perf_counter()
        step.run(attribution)
        synchronize(device)
        if index >= _WARM_UP:
            times.append(1e3 * (time.perf_counter() - started))
    return times


def _once(step: TrainingStep, device: torch.device) -> Callable[[], None]:
    """Return what runs a step and waits until the device has done it."""
    attribution = Attribution({})

    def once() -> None:
        step.run(attribution)
        synchronize(device)

    return once


def profiled(
    step: TrainingStep,
    steps: int,
    device: torch.device,
    folder: Path | None,
    *,
    first: bool = True,
    follow: bool = True,
) -> tuple[Swept, list[tuple[int, int]], Path | None]:
    """Return times by component and the memory events of the last step; the profiler's own first steps do not count.

    ``first`` collects garbage before, so that what others left behind is not freed while memory is watched. Without
    ``follow`` no component is marked: hooks would have a compiled model compiled anew.
    """
    activities = [ProfilerActivity.CPU]
    if device.type != "cpu":
        activities.append(getattr(ProfilerActivity, device.type.upper()))
    components = components_of(step.model) if follow else {}
    with Attribution(components, _mark) as attribution:
        with torch.profiler.profile(activities=activities, profile_memory=True):
            step.run(attribution)
        if first:
            gc.collect()
        profiler = torch.profiler.profile(activities=activities, profile_memory=True)
        with profiler:
            for index in range(steps):
                with record_function(f"{STEP}{index}"):
                    step.run(attribution)
                    synchronize(device)
        assert profiler.profiler is not None
        found = events_of(profiler.profiler.kineto_results, DeviceType.CPU, kind_of(device))
        swept = sweep(found.events, attribution.owner)
        swept.launched = found.launched
    last = swept.step_starts[-1]
    trace = _written(profiler, folder) if folder is not None else None
    return swept, [(ns, size) for ns, size in found.memory if ns >= last], trace


def kind_of(device: torch.device) -> DeviceType:
    """Return what the profiler calls a kind of device; one of somebody else's making is its private one."""
    kind: DeviceType = getattr(DeviceType, device.type.upper(), DeviceType.PrivateUse1)
    return kind


def _mark(name: str) -> AbstractContextManager[object]:
    return record_function(f"{RANGE}{name}")


def _written(profiler: torch.profiler.profile, folder: Path) -> Path:
    """Write the trace as TensorBoard's handler does and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("*.pt.trace.json*"))
    torch.profiler.tensorboard_trace_handler(str(folder))(profiler)
    return max(set(folder.glob("*.pt.trace.json*")) - before)


def resident_bytes(step: TrainingStep) -> int:
    """Return the bytes that are there before a step begins: weights, buffers, the optimiser's state and the batch."""
    state = [] if step.optimiser is None else list(step.optimiser.state.values())
    held = [list(step.model.parameters()), list(step.model.buffers()), state]
    leaves = (leaf for leaf in tree_leaves([held, step.inputs, step.kept]))
    storages = {
        leaf.untyped_storage()._cdata: leaf.untyped_storage().nbytes()
        for leaf in leaves
        if isinstance(leaf, Tensor)
    }
    return sum(storages.values())


def _memory_table(memory: list[tuple[int, int]], swept: Swept) -> pa.Table:
    start = swept.step_starts[-1]
    return pa.table(
        {
            "us": pa.array([(ns - start) / 1e3 for ns, _ in memory], pa.float64()),
            "bytes": pa.array([size for _, size in memory], pa.int64()),
        }
    )
