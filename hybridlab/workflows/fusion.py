"""Fuses the model of a training with these settings, for its steps or for inference, where that is measured faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.fusion.measure import ROUNDS, FusionReport, choose_fusion
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import prepare
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.workflows.profile import training_step


def fuse_training(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool = False,
    rounds: int = ROUNDS,
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> FusionReport:
    """Measure what can be fused in the model of a training, on its task's first batch; see ``choose_fusion``.

    Args:
        architecture: without the task's input and head they are supplied.
        settings: as ``TrainSpec`` has them; a plan or a fusion in them is left out.
        training: whether it is the training step that is fused; else the pass forward in evaluation mode.
        rounds: how many turns are timed, fewer where they take long.
        on_part: hears before each part how many of how many are done.

    Raises:
        SpecError: the architecture or a setting is wrong, or the settings say what is not fused.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    own = ("plan", "fusion")
    task, spec = prepare({name: value for name, value in settings.items() if name not in own})
    _check(spec)
    completed = fit(architecture, task)
    model = build(completed, task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    if not training:
        around = numerics(spec).autocast
        step = TrainingStep(model.eval(), step.inputs, loss=None, around=around)
    return choose_fusion(step, rounds=rounds, on_part=on_part)


def _check(spec: TrainSpec) -> None:
    """Refuse settings whose steps are not all of one model on one task.

    Raises:
        SpecError: it names all of them.
    """
    problems = [
        Problem(name, "is not fused: " + why, fix="fuse the training of one task without it")
        for name, there, why in (
            ("tasks", spec.tasks is not None, "each of several tasks has a step of its own kind"),
            ("stages", bool(spec.stages), "the model changes from stage to stage"),
            ("teacher", spec.teacher is not None, "the teacher runs beside the model"),
        )
        if there
    ]
    if problems:
        raise SpecError(problems)
