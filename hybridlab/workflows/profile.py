"""Profiles one step of an architecture on a task, or of any module on a batch, with its prediction beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from hybridlab.architecture.fake_run import concrete_shape
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.components.types import TensorType
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.hardware.meters.allocator import told_of
from hybridlab.planning.training_step import recipe
from hybridlab.profiling.calibrate import calibrate
from hybridlab.profiling.record import NAMED, ComponentTime, Profile
from hybridlab.profiling.session import Measured, OnStage, device_of, measure
from hybridlab.profiling.sweep import UNATTRIBUTED
from hybridlab.tasks.base import Batch, Task
from hybridlab.tasks.registry import fit
from hybridlab.trace.costs import costs
from hybridlab.trace.exact import predict_module, predict_stream
from hybridlab.trace.kernels import device_us
from hybridlab.trace.machine import this_cpu
from hybridlab.trace.predict import Prediction, predict
from hybridlab.trace.step import Loss, TrainingStep, default_loss, default_optimiser
from hybridlab.trace.stream import OpStream
from hybridlab.training.defaults import prepare
from hybridlab.training.groups import clip_all, optimiser
from hybridlab.training.optimiser import gradient_norm
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.weights import load_weights, read_tensors
from hybridlab.workflows.as_trained import arranged, as_trained, told


def profile_training(
    architecture: Architecture,
    task: str,
    *,
    steps: int = 10,
    batch: int | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: Path | None = None,
) -> Profile:
    """Profile the step that ``hybridlab train`` would make: the task's loss, clipping and AdamW on one of its batches.

    Making the batch is left out. With a ``folder`` the trace is written there.

    Raises:
        SpecError: the architecture has errors.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: the number of steps is out of range.
    """
    asked = {"batch": batch} if batch is not None else {}
    settings = {"task": task, "seed": seed, "device": device, **asked}
    return profile_settings(architecture, settings, steps=steps, folder=folder)


def profile_settings(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    steps: int = 10,
    weights: Path | None = None,
    folder: Path | None = None,
    on_stage: OnStage = lambda stage: None,
) -> Profile:
    """Profile the step of a training with these settings, as ``TrainSpec`` has them; their number of steps is not used.

    ``weights`` is a safetensors file to begin from; without it they are those that the seed gives. ``on_stage`` hears
    what is begun, one of ``session.STAGES``; what it raises ends the profile.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: the number of steps is out of range, or the weights are another architecture's.
    """
    chosen, spec = prepare(settings)
    completed = fit(architecture, chosen)
    where = numerics(spec)
    model = built(completed, chosen, spec, weights)
    pools = as_trained(model, spec)
    step = training_step(model, chosen, spec)
    predicted = stream = None
    notes = told(spec)
    if spec.tasks is not None:
        notes += (f"of several tasks, the loss is that of {spec.task} alone; all heads run",)
    on_stage("predict")
    try:
        stream = predict_stream(
            completed,
            chosen.input_type(),
            batch=spec.batch,
            length=chosen.length,
            recipe=recipe(chosen, spec, step.kept),
            arrange=arranged(spec),
            device=str(where.device),
        )
    except DataDependentOutputException as error:  # Adafactor's update, for one
        notes += (
            f"memory and operators are not predicted: {error.func} asks for values, of which there are none "
            "before a step has run",
        )
    if where.dtype is None and where.device.type == "cpu":
        on_stage("calibrate")
        kind, length = chosen.input_type(), chosen.length
        predicted = _predicted(completed, kind, batch=spec.batch, length=length)
    measured = measure(step, steps=steps, folder=folder, on_stage=on_stage)
    found = _profile(
        f"{architecture.name} on {chosen.name}", model, measured, stream, predicted, notes
    )
    if pools is not None:
        found = replace(found, allocator={**found.allocator, "pools": pools.as_dict()})
    return found


def training_step(model: GraphModel, task: Task, spec: TrainSpec) -> TrainingStep:
    """Return the step that a training makes of a model on its first batch: its parts' losses, clipping and update."""
    where = numerics(spec)
    model = model.to(where.device).train()
    data = task.train_batch(0, spec.batch, spec.seed).to(where.device)
    cut = data.split(spec.accumulation) if spec.accumulation > 1 else [data]
    answers = [int(piece.mask.sum()) for piece in cut]
    made = optimiser(model, spec)

    def before_update(parameters: Sequence[nn.Parameter]) -> None:
        clip_all(made, parameters, gradient_norm(parameters), spec)

    def loss_of(piece: Batch, share: float) -> Loss:
        def loss(output: Tensor) -> Tensor:
            found = task.loss(output.float() if where.dtype else output, piece)
            return found * share if share != 1.0 else found

        return loss

    (first, loss), *more = (
        ((piece.inputs,), loss_of(piece, count / max(1, sum(answers)) if len(cut) > 1 else 1.0))
        for piece, count in zip(cut, answers, strict=True)
    )
    return TrainingStep(
        model,
        first,
        loss,
        made,
        before_update,
        kept=data.targets,
        around=where.autocast,
        more=tuple(more),
    )


def built(
    architecture: Architecture, task: Task, spec: TrainSpec, weights: Path | None
) -> GraphModel:
    """Build a network that has its task's input and head, with the weights of a file or those that the seed gives."""
    model = build(architecture, task.input_type(), seed=spec.seed)
    if weights is not None:
        load_weights(model, read_tensors(weights), weights)
    return model


def profile_architecture(
    architecture: Architecture,
    *,
    steps: int = 10,
    batch: int = 8,
    length: int = 64,
    seed: int = 0,
    folder: Path | None = None,
) -> Profile:
    """Profile a training step of an architecture as it stands, on random inputs, with the mean square as its loss.

    Raises:
        SpecError: the architecture has errors.
        RunError: the number of steps is out of range.
    """
    inference = infer(architecture)
    if inference.errors:
        raise SpecError(inference.errors)
    model = build(architecture, seed=seed).train()
    first = next(iter(inference.slots.values()))
    vocabulary = int(getattr(first.params, "vocab", 2))
    inputs = _random(inference.input, batch, length, vocabulary, seed)
    step = TrainingStep(model, (inputs,), default_loss, default_optimiser(model))
    stream = predict_stream(architecture, batch=batch, length=length)
    predicted = _predicted(architecture, None, batch=batch, length=length)
    measured = measure(step, steps=steps, folder=folder)
    return _profile(architecture.name, model, measured, stream, predicted)


def profile_module(
    module: nn.Module,
    inputs: tuple[Any, ...],
    *,
    steps: int = 10,
    loss: Loss | None = None,
    training: bool = True,
    folder: Path | None = None,
) -> Profile:
    """Profile any module on inputs, with its submodules' paths as components.

    A training step updates a copy of the weights that is put back afterwards; the loss is the mean square of the output
    where none is given. With ``training=False`` it is a forward alone.

    Raises:
        RunError: the number of steps is out of range.
    """
    chosen = (loss or default_loss) if training else None
    name, stream = type(module).__name__, None
    notes: tuple[str, ...] = ()
    try:
        stream = predict_module(module, inputs, loss=chosen)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        notes = (f"there is no prediction: {why}",)
    before = {key: value.detach().clone() for key, value in module.state_dict().items()}
    was_training = module.training
    module.train(training)
    optimiser = default_optimiser(module) if training else None
    try:
        measured = measure(
            TrainingStep(module, inputs, chosen, optimiser), steps=steps, folder=folder
        )
    finally:
        module.zero_grad(set_to_none=True)
        module.train(was_training)
        with torch.no_grad():
            for key, value in module.state_dict().items():
                value.copy_(before[key])
    return _profile(name, module, measured, stream, None, notes)


def profile_any(
    subject: Architecture | nn.Module,
    batch: Any = None,
    *,
    task: str | None = None,
    steps: int = 10,
    length: int | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    folder: Path | None = None,
) -> Profile:
    """Profile an architecture (``batch`` is a number of samples) or a module (``batch`` is what it is called with).

    Raises:
        SpecError: the architecture has errors.
        TaskError: it does not fit the task.
        HybridLabError: what ``batch`` is does not fit what is profiled.
    """
    if isinstance(subject, Architecture):
        if batch is not None and (not isinstance(batch, int) or batch < 1):
            raise HybridLabError(
                Problem("batch", "is not a number of samples", "1 or more", type(batch).__name__)
            )
        if task is not None:
            return profile_training(subject, task, steps=steps, batch=batch, folder=folder)
        return profile_architecture(
            subject, steps=steps, batch=batch or 8, length=length or 64, folder=folder
        )
    if batch is None:
        raise HybridLabError(
            Problem("batch", "is missing", "what the module is called with", fix="give a tensor")
        )
    inputs = batch if isinstance(batch, tuple) else (batch,)
    return profile_module(subject, inputs, steps=steps, loss=loss, folder=folder)


def _predicted(
    architecture: Architecture, input_type: TensorType | None, *, batch: int, length: int
) -> Prediction:
    """Predict a step with as many threads as it is measured with, by components measured alone."""
    roofline = this_cpu(torch.get_num_threads())
    calibration = calibrate(architecture, infer(architecture, input_type), roofline)
    return predict(
        architecture,
        input_type,
        batch=batch,
        length=length,
        roofline=roofline,
        calibration=calibration,
    )


def _random(kind: TensorType, batch: int, length: int, vocabulary: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = concrete_shape(kind, batch, length)
    if kind.dtype == "int64":
        return torch.randint(vocabulary, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _profile(
    name: str,
    model: nn.Module,
    measured: Measured,
    stream: OpStream | None,
    prediction: Prediction | None,
    notes: tuple[str, ...] = (),
) -> Profile:
    swept = measured.swept
    steps, total = len(swept.step_ns), max(1, sum(swept.step_ns))
    lost = sum(ns for (path, _), ns in swept.ns.items() if path == UNATTRIBUTED)
    named = sum(ns for (path, _), ns in swept.ns.items() if path in NAMED)
    device = device_of(model)
    return Profile(
        name=name,
        components=_components(measured, prediction, steps, total),
        attributed=1.0 - lost / total,
        in_components=1.0 - (lost + named) / total,
        unattributed_ms=lost / 1e6 / steps,
        profiled_ms=measured.profiled_ms,
        step_ms_measured=measured.step_ms,
        step_ms_predicted=prediction.step_ms if prediction is not None else None,
        peak_bytes_measured=measured.peak_bytes,
        peak_bytes_predicted=stream.peak_bytes if stream is not None else None,
        stream=measured.stream,
        predicted=stream,
        memory=measured.memory,
        joined=measured.joined,
        kernels_joined=measured.kernels_joined,
        device=str(device),
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        trace=str(measured.trace) if measured.trace is not None else None,
        notes=(*notes, *host_only(device), *(stream.notes if stream is not None else ())),
        energy=measured.energy,
        allocator=told_of(measured.allocator),
    )


def host_only(device: torch.device) -> tuple[str, ...]:
    """Say what times by component are of, where they are not of the device; nothing on a CPU."""
    if device.type == "cpu":
        return ()
    return (
        f"times of components are the host's, which starts the work of {device}; what ran on it stands beside its "
        "operator, and all of it is in this profile's trace, which the Profile page and `hybridlab trace show` read",
    )


def _components(
    measured: Measured, prediction: Prediction | None, steps: int, total: int
) -> tuple[ComponentTime, ...]:
    """Return the table by component, in the order in which they first run."""
    work = {row["component"]: row for row in _rows(costs(measured.stream))}
    forecast = {cost.path: cost.ms for cost in prediction.components} if prediction else {}
    joules = measured.energy.shared_joules
    device_ms = _device_ms(measured.stream)
    found = []
    for path in dict.fromkeys([*work, *(path for path, _ in measured.swept.ns)]):
        if path == UNATTRIBUTED:
            continue
        ns = {phase: n for (mine, phase), n in measured.swept.ns.items() if mine == path}
        ms = {phase: n / 1e6 / steps for phase, n in ns.items()}
        row, share = work.get(path, {}), sum(ns.values()) / total
        found.append(
            ComponentTime(
                path=path,
                ms=sum(ms.values()),
                forward_ms=ms.get("forward", 0.0),
                backward_ms=ms.get("backward", 0.0),
                optimiser_ms=ms.get("optimiser", 0.0),
                share=share,
                operators=int(row.get("operators", 0)),
                flops=int(row.get("flops", 0)),
                bytes_read=int(row.get("bytes_read", 0)),
                bytes_written=int(row.get("bytes_written", 0)),
                saved_bytes=int(row.get("saved_bytes", 0)),
                predicted_ms=forecast.get(path),
                joules=None if joules is None else share * joules,
                grad_norm=measured.grad_norms.get(path),
                device_ms=device_ms.get(path, 0.0) if device_ms else None,
            )
        )
    return tuple(found)


def _device_ms(stream: OpStream) -> dict[str, float]:
    """Return the ms on a device of what each component started; empty where nothing ran on one."""
    found: dict[str, float] = {}
    for path, us in zip(stream.strings("component"), device_us(stream).tolist(), strict=True):
        if us == us:
            found[path] = found.get(path, 0.0) + us / 1e3
    return found


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return list(table.to_pylist())
