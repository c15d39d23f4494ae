"""The step of a training as it is planned: how its loss, its clipping and its optimiser go, and what is not planned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.fusion.apply import fuse
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.planner import Arrange, Offload, Planner, planner
from hybridlab.planning.tuning.apply import tune
from hybridlab.planning.tuning.record import Tuning
from hybridlab.profiling.calibrate import calibrate
from hybridlab.tasks.base import Batch, Task
from hybridlab.trace.calibration import nearest
from hybridlab.trace.exact import Recipe
from hybridlab.trace.machine import this_cpu
from hybridlab.training.groups import optimiser
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec


def recipe(task: Task, spec: TrainSpec, targets: Tensor) -> Recipe:
    """Return how a task trains, for a prediction; gradients are taken to be clipped at every update.

    float16 is traced as bfloat16, which has as many bytes; the few numbers that scale its loss are left out.
    """
    cast = numerics(spec).dtype

    def loss(output: Tensor, fake: Tensor) -> Tensor:
        return task.loss(output.float() if cast else output, Batch(fake, fake))

    def before_update(parameters: Sequence[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if spec.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, spec.clip_norm, norm, foreach=True)

    return Recipe(
        loss,
        tuple(targets.shape[1:]),
        lambda model: optimiser(model, spec),
        before_update,
        cast=None if cast is None else torch.bfloat16,
        parts=spec.accumulation,
        answers=targets.dtype,
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
    arrange = _arranged(spec)
    threads = threads or torch.get_num_threads()
    roofline = this_cpu(threads)
    inference = infer(completed, task.input_type(), batch=spec.batch, length=task.length)
    if inference.errors:
        raise SpecError(inference.errors)
    data = task.train_batch(0, spec.batch, spec.seed)
    how = recipe(task, spec, data.targets)
    calibration = (
        calibrate(completed, inference, roofline, cast=how.cast)
        if measure
        else nearest(threads, how.cast)
    )
    try:
        return planner(
            completed,
            task.input_type(),
            batch=spec.batch,
            length=task.length,
            recipe=how,
            roofline=roofline,
            calibration=calibration,
            offload=offload,
            arrange=arrange,
            note=" ".join(filter(None, (predicted_of(spec), expected_of(inference)))),
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
    """Refuse settings whose model is not the one that is planned all along, or whose parts cannot run by themselves.

    Raises:
        SpecError: it names all of them.
    """
    problems = [
        Problem(
            f"stages[{place}].grow",
            "is not planned: a design that has grown is another one",
            fix="plan the training of the design as it ends",
        )
        for place, stage in enumerate(spec.stages)
        if stage.grow
    ]
    problems += [
        Problem(
            name,
            "is not planned: plans know the step as designed, and not what it keeps otherwise",
            fix="plan without it" + ("" if name == "regions" else "; a training may have both"),
        )
        for name in ("precisions", "regions")
        if getattr(spec, name) is not None
    ]
    problems += [
        Problem(
            f"fusion.products[{place}]",
            "is not planned: it joins maps of several components, which then cannot be computed again apart",
            got=", ".join(names),
            fix="plan without it",
        )
        for place, names in (Fusion.read(spec.fusion).across if spec.fusion is not None else ())
    ]
    if problems:
        raise SpecError(problems)


def predicted_of(spec: TrainSpec) -> str:
    """Say in a sentence of which step of a training the figures of a plan are; nothing where all steps are alike."""
    found = []
    if spec.tasks is not None:
        found.append(
            f"all heads run, and {spec.task} alone has a loss: what the losses of the other tasks keep comes on top"
        )
    if spec.stages:
        found.append(
            "the whole model learns the task as it is: a stage that freezes parts takes less, one with longer samples "
            "more"
        )
    if spec.teacher is not None:
        found.append("the teacher and the losses against it are left out, and come on top")
    return f"Predicted is the step in which {'; '.join(found)}." if found else ""


def expected_of(inference: Inference) -> str:
    """Say what is expected of components whose work data decides; nothing where there are none."""
    found = {
        plan.info.name: plan.info.cls.data_decides
        for plan in inference.slots.values()
        if plan.info.cls.data_decides
    }
    return " ".join(
        f"Of {name}, whose work data decides, {expected}." for name, expected in found.items()
    )


def _arranged(spec: TrainSpec) -> Arrange | None:
    """Return what fuses and tunes a model as a training does; None where it does neither."""
    fusion = None if spec.fusion is None else Fusion.read(spec.fusion)
    tuning = None if spec.tuning is None else Tuning.read(spec.tuning)
    if fusion is None and tuning is None:
        return None

    def arrange(model: nn.Module) -> None:
        assert isinstance(model, GraphModel)
        if fusion is not None:
            fuse(model, fusion)
        if tuning is not None:
            tune(model, tuning)

    return arrange
