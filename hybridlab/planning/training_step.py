"""The step of a training as it is planned: how its loss, its clipping and its optimiser go, and what is not planned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from hybridlab.architecture.infer import infer
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.planner import Offload, Planner, planner
from hybridlab.profiling.calibrate import calibrate
from hybridlab.tasks.base import Batch, Task
from hybridlab.trace.calibration import kept
from hybridlab.trace.exact import Recipe
from hybridlab.trace.machine import this_cpu
from hybridlab.training.groups import optimiser
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec


def recipe(task: Task, spec: TrainSpec, targets: Tensor) -> Recipe:
    """Return how a task trains, for a prediction; gradients are taken to be clipped at every update."""

    def before_update(parameters: Sequence[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if spec.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, spec.clip_norm, norm, foreach=True)

    return Recipe(
        lambda output, fake: task.loss(output, Batch(fake, fake)),
        tuple(targets.shape[1:]),
        lambda model: optimiser(model, spec),
        before_update,
    )


def plan_step(
    completed: Architecture,
    task: Task,
    spec: TrainSpec,
    *,
    measure: bool = True,
    threads: int | None = None,
    offload: Offload | None = None,
) -> Planner:
    """Trace and solve the step of a training, with components' times as they are measured on this machine.

    Without ``measure`` only what was measured before is used, so that it takes no longer than tracing. Times are those
    of so many ``threads``, by default this process's.

    Raises:
        SpecError: the architecture has errors, or the settings say what is not planned.
    """
    check_planned(spec)
    threads = threads or torch.get_num_threads()
    roofline = this_cpu(threads)
    inference = infer(completed, task.input_type(), batch=spec.batch, length=task.length)
    if inference.errors:
        raise SpecError(inference.errors)
    data = task.train_batch(0, spec.batch, spec.seed)
    calibration = calibrate(completed, inference, roofline) if measure else kept(threads)
    try:
        return planner(
            completed,
            task.input_type(),
            batch=spec.batch,
            length=task.length,
            recipe=recipe(task, spec, data.targets),
            roofline=roofline,
            calibration=calibration,
            offload=offload,
        )
    except DataDependentOutputException as error:  # Adafactor's update, for one
        raise SpecError(
            Problem(
                "groups",
                f"cannot be planned: {error.func} of an optimiser asks for values, of which there are none before a "
                "step has run",
                fix="choose another optimiser",
            )
        ) from None


def check_planned(spec: TrainSpec) -> None:
    """Refuse settings whose steps are not all the same step of one model, as it is and in float32.

    Raises:
        SpecError: it names all of them.
    """
    problems = []
    if spec.tasks is not None:
        problems.append(
            Problem(
                "tasks",
                "is not planned: each of several tasks has a step of its own kind",
                fix="plan the training of one task",
            )
        )
    if spec.stages:
        problems.append(
            Problem(
                "stages",
                "is not planned: the step changes from stage to stage",
                fix="plan a training without stages",
            )
        )
    if spec.teacher is not None:
        problems.append(
            Problem(
                "teacher",
                "is not planned: the teacher runs beside the model in each step",
                fix="plan a training without a teacher",
            )
        )
    for name in MEASURED[1:]:
        if getattr(spec, name) is not None:
            problems.append(
                Problem(
                    name,
                    "is not planned: plans know the step as designed, in float32, and not what it keeps otherwise",
                    fix="plan without it"
                    + ("" if name == "regions" else "; a training may have both"),
                )
            )
    if numerics(spec).dtype is not None:
        problems.append(
            Problem("precision", "is not planned", "float32", spec.precision, "leave it out")
        )
    if spec.accumulation > 1:
        problems.append(
            Problem(
                "accumulation",
                "is not planned: gradients stay from part to part",
                "1",
                str(spec.accumulation),
                "plan a smaller batch",
            )
        )
    if problems:
        raise SpecError(problems)
