"""Compares batches sorted by length with batches padded to the longest sample: positions, bytes and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.hardware.others import Others
from hybridlab.planning.buckets.measure import peaks_of, times_of
from hybridlab.planning.buckets.record import (
    COUNTS,
    LONGEST,
    MOST_BUCKETS,
    MOST_COUNTS,
    MOST_STEPS,
    BucketReport,
    BucketRow,
)
from hybridlab.planning.training_step import recipe
from hybridlab.profiling.medians import median
from hybridlab.tasks.base import Batch, Task
from hybridlab.tasks.buckets import PaddedBatch, bucketed
from hybridlab.tasks.registry import fit
from hybridlab.trace.exact import predict_stream
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import prepare
from hybridlab.training.groups import clip_all, optimiser
from hybridlab.training.optimiser import gradient_norm
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec


def compare_buckets(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    counts: Sequence[int] = COUNTS,
    steps: int | None = None,
    measure: bool = True,
    rounds: int = 7,
    limit_s: float = 60.0,
    on_part: Callable[[str, int, int], object] = lambda what, done, parts: None,
) -> BucketReport:
    """Return what a training takes with its samples sorted by length in ``counts`` batches at a time, and without.

    All ways are given the samples of the training's first steps. Batches padded to the longest come first; what they
    are padded with is read, as a training without buckets reads it.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of a step of one length is left out.
        counts: numbers of batches that are drawn together.
        steps: how many steps are compared; by itself the largest of ``counts``.
        measure: whether it is also run; else positions and bytes are predicted.
        rounds: how many times each way makes all of its steps.
        limit_s: seconds after which no further round begins.
        on_part: hears what is begun (``predict``, ``memory``, ``time``), and how many parts of how many are done.

    Raises:
        SpecError: the architecture, a setting or a number is wrong, or all samples are of one length.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    wanted = _checked(counts, steps)
    plain = {name: value for name, value in settings.items() if name not in MEASURED}
    task, spec = prepare({**plain, "buckets": max(wanted)})
    steps = steps or max(wanted)
    batches: dict[int, list[Batch]] = {
        LONGEST: [task.train_batch(step, spec.batch, spec.seed) for step in range(steps)]
    }
    for count in wanted:
        sorted_ = bucketed(task, count, steps)
        batches[count] = [sorted_.train_batch(step, spec.batch, spec.seed) for step in range(steps)]
    completed = fit(architecture, task)
    model = build(completed, task.input_type(), seed=spec.seed)
    predicted, notes = _predicted(completed, task, spec, batches, on_part)
    own = sum(int(one.ends.sum()) for one in batches[wanted[0]] if isinstance(one, PaddedBatch))
    others, measured, times = Others(), dict[int, tuple[int, ...]](), dict[int, list[float]]()
    if measure:
        ways = _steps(model, task, spec, batches)
        measured = peaks_of(ways, lambda done, parts: on_part("memory", done, parts))
        others = Others()
        times = times_of(ways, rounds, limit_s, lambda done, parts: on_part("time", done, parts))
    size = task.train_size
    return BucketReport(
        task=task.name,
        batch=spec.batch,
        longest=task.length,
        steps=steps,
        epoch_steps=None if size is None else size / spec.batch,
        rows=tuple(
            BucketRow(
                buckets=way,
                lengths=tuple(one.inputs.shape[1] for one in made),
                own_positions=own,
                positions=sum(one.inputs.shape[0] * one.inputs.shape[1] for one in made),
                predicted_bytes=predicted[way],
                measured_bytes=measured.get(way, ()),
                step_ms=median(times[way]) if times else None,
                ratio=median(
                    [
                        mine / longest
                        for mine, longest in zip(times[way], times[LONGEST], strict=True)
                    ]
                )
                if times
                else None,
            )
            for way, made in batches.items()
        ),
        device=str(numerics(spec).device),
        threads=torch.get_num_threads(),
        others_cores=others.cores() if times else 0.0,
        notes=notes,
    )


def not_sorted(settings: Mapping[str, Any]) -> str:
    """Say in a sentence why a training with these settings cannot sort its samples by length; nothing where it can.

    Raises:
        SpecError: a setting is wrong whether samples are sorted or not.
        TaskError: the task is unknown or does not fit.
    """
    plain = {name: value for name, value in settings.items() if name not in (*MEASURED, "buckets")}
    task, _ = prepare(plain)
    try:
        prepare({**plain, "buckets": 1})
    except SpecError as error:
        said = "; ".join(problem.message for problem in error.problems)
        return f"Samples are not sorted in a training with these settings: {said}."
    if task.ends(task.train_batch(0, 1, 0)) is None:
        return f"There is nothing to sort: all samples of {task.name} are {task.length:,} long."
    return ""


def _checked(counts: Sequence[int], steps: int | None) -> list[int]:
    """Return the numbers of buckets in order, each once.

    Raises:
        SpecError: there are none or too many, or one is out of range.
    """
    wanted = sorted(set(counts))
    problems = []
    if not wanted or len(wanted) > MOST_COUNTS or not 1 <= wanted[0] <= wanted[-1] <= MOST_BUCKETS:
        allowed = f"1 to {MOST_COUNTS} numbers from 1 to {MOST_BUCKETS}"
        told = ", ".join(map(str, wanted[:20])) or "none"
        problems.append(Problem("buckets", "are out of range", allowed, told))
    elif steps is not None and not wanted[-1] <= steps <= MOST_STEPS:
        allowed = f"{wanted[-1]} to {MOST_STEPS}, so that the most buckets are filled once"
        problems.append(Problem("steps", "is out of range", allowed, str(steps)))
    if problems:
        raise SpecError(problems)
    return wanted


def _predicted(
    completed: Architecture,
    task: Task,
    spec: TrainSpec,
    batches: Mapping[int, Sequence[Batch]],
    on_part: Callable[[str, int, int], object],
) -> tuple[dict[int, tuple[int, ...]], tuple[str, ...]]:
    """Return the bytes at the peak of every step, one look for each length, and what they leave out."""
    lengths = {one.inputs.shape[1]: one.targets for made in batches.values() for one in made}
    peaks: dict[int, int] = {}
    for length, targets in lengths.items():
        on_part("predict", len(peaks), len(lengths))
        try:
            stream = predict_stream(
                completed,
                task.input_type(),
                batch=spec.batch,
                length=length,
                recipe=recipe(task, spec, targets),
            )
        except DataDependentOutputException as error:  # Adafactor's update, for one
            raise SpecError(
                Problem(
                    "groups",
                    f"cannot be predicted: {error.func} of an optimiser asks for values, of which there are none "
                    "before a step has run",
                    fix="choose another optimiser",
                )
            ) from None
        peaks[length] = stream.peak_bytes
    notes = ["bytes are predicted as if no position were padding"]
    if spec.accumulation > 1:
        notes.append(f"a batch is run at once here, and not in its {spec.accumulation} parts")
    found = {
        way: tuple(peaks[one.inputs.shape[1]] for one in made) for way, made in batches.items()
    }
    return found, tuple(notes)


def _steps(
    model: GraphModel, task: Task, spec: TrainSpec, batches: Mapping[int, Sequence[Batch]]
) -> dict[int, list[TrainingStep]]:
    """Return a training step for each batch, all of one model and one optimiser."""
    where = numerics(spec)
    model = model.to(where.device).train()
    made = optimiser(model, spec)

    def before_update(parameters: Sequence[nn.Parameter]) -> None:
        clip_all(made, parameters, gradient_norm(parameters), spec)

    def step_on(batch: Batch) -> TrainingStep:
        there = batch.to(where.device)
        return TrainingStep(
            model,
            there.given,
            lambda output: task.loss(output.float() if where.dtype else output, there),
            made,
            before_update,
            kept=there.targets,
            around=where.autocast,
        )

    return {way: [step_on(one) for one in each] for way, each in batches.items()}
