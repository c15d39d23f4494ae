"""The one step of a training that is changed to be faster: what it is made of, and which trainings have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.training.spec import MEASURED, TrainSpec
from hybridlab.workflows.profile import training_step


def one_step(
    architecture: Architecture, settings: Mapping[str, Any], *, training: bool, verb: str
) -> TrainingStep:
    """Return the step of a training on its task's first batch, or the pass forward of its model in evaluation mode.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; what was measured of another step is left out.
        training: whether it is the training step; else the pass forward.
        verb: what is to be done with it, for sentences: ``fuse``, ``tune``, ``measure``.

    Raises:
        SpecError: the architecture or a setting is wrong, or the settings say what has no one step.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    task, spec = prepare({name: value for name, value in settings.items() if name not in MEASURED})
    _check(spec, verb)
    model = build(fit(architecture, task), task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    if training:
        return step
    around = numerics(spec).autocast
    return TrainingStep(model.eval(), step.inputs, loss=None, around=around)


def _check(spec: TrainSpec, verb: str) -> None:
    """Refuse settings whose steps are not all of one model on one task.

    Raises:
        SpecError: it names all of them.
    """
    done = f"is not {verb.removesuffix('e')}ed: "
    problems = [
        Problem(name, done + why, fix=f"{verb} the training of one task without it")
        for name, there, why in (
            ("tasks", spec.tasks is not None, "each of several tasks has a step of its own kind"),
            ("stages", bool(spec.stages), "the model changes from stage to stage"),
            ("teacher", spec.teacher is not None, "the teacher runs beside the model"),
        )
        if there
    ]
    if problems:
        raise SpecError(problems)
