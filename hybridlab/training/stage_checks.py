"""What stages ask of a task and a model that these do not have, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import MAX_REPEAT
from hybridlab.components.base import Kind
from hybridlab.errors import Problem, SpecError, TaskError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task as make_task
from hybridlab.training.gates import gate_problems
from hybridlab.training.grown import grown
from hybridlab.training.growth import growth_problems
from hybridlab.training.part_spec import fits
from hybridlab.training.spec import TrainSpec
from hybridlab.training.stage_spec import StageSpec


def stage_task(task: Task, spec: TrainSpec, stage: StageSpec) -> Task:
    """Return the task of a stage; the run's own where the stage changes nothing of it.

    Raises:
        TaskError: a parameter is not right.
    """
    if not stage.task_params:
        return task
    return make_task(task.name, **{**spec.task_params, **stage.task_params})


def check_stages(model: nn.Module, task: Task, spec: TrainSpec) -> None:
    """Check the stages of a training against its model, which may be without memory (on ``meta``), and its task.

    Raises:
        SpecError: a stage asks for what is not there; it holds every problem.
    """
    problems = list(_stage_problems(model, task, spec)) if spec.stages else []
    if problems:
        raise SpecError(problems)


def _stage_problems(model: nn.Module, task: Task, spec: TrainSpec) -> Iterator[Problem]:
    for place, stage in enumerate(spec.stages):
        here = f"stages[{place}]"
        counted = stage.until is not None and stage.until.train_accuracy is not None
        if counted and task.measure != "accuracy":
            yield Problem(
                f"{here}.until.train_accuracy",
                f"{task.name} is not measured by accuracy",
                fix="set train_loss instead",
            )
        try:
            mine = stage_task(task, spec, stage)
        except TaskError as error:
            yield from (replace(one, path=f"{here}.{one.path}") for one in error.problems)
            continue
        if isinstance(model, GraphModel) and mine is not task:
            yield from _too_much(model, mine, f"{here}.task_params")
    if isinstance(model, GraphModel):
        yield from _model_problems(model, spec)
    elif any(stage.of_model for stage in spec.stages):
        yield Problem("stages", "change a model that is not built from an architecture")


def _too_much(model: GraphModel, task: Task, path: str) -> Iterator[Problem]:
    """Yield what a stage's task asks of a model that was built for the run's own task."""
    fix = "let the run's own task_params be those of the hardest stage"
    vocab = task.input_node().get("vocab")
    for slot in model.inference.slots.values():
        room = getattr(slot.params, "vocab", None)
        if slot.info.kind is Kind.INPUT and room is not None and vocab is not None and vocab > room:
            yield Problem(
                path,
                f"asks for more symbols than {slot.path} was built for",
                f"a vocabulary of at most {room}",
                str(vocab),
                fix,
            )
    given, asked = model.inference.output, task.output_type()
    if given is not None:
        classes, wanted = given.shape[-1], asked.shape[-1]
        more = isinstance(classes, int) and isinstance(wanted, int) and wanted > classes
        if len(given.shape) != len(asked.shape) or more:
            yield Problem(
                path, "asks for other answers than the model gives", str(given), str(asked), fix
            )
    for one in infer(model.architecture, task.input_type(), length=task.length).errors:
        yield replace(one, path=path, message=f"does not go with the model: {one.sentence()}")


def _model_problems(model: GraphModel, spec: TrainSpec) -> Iterator[Problem]:
    """Yield what is wrong with growth, and with gates in the model that it leads to."""
    before = []
    for place, stage in enumerate(spec.stages):
        before += [(place, one) for one in growth_problems(model, place, stage)]
    yield from (one for _, one in before)
    if before or not any(stage.of_model for stage in spec.stages):
        return
    largest = grown(model.architecture, spec.stages)
    if largest is model.architecture:
        yield from gate_problems(model, spec.stages)
        return
    for _, ids, node in largest.walk():
        if node.repeat > MAX_REPEAT:
            message = f"{ids} would have {node.repeat} repeats in the end"
            yield Problem("stages", message, f"at most {MAX_REPEAT}")
            return
    try:
        whole = build(largest, model.inference.input, device="meta")
    except SpecError as error:
        yield from (replace(one, path=f"stages: {one.path}") for one in error.problems)
        return
    yield from _gone_by_then(model, whole, spec)
    yield from gate_problems(whole, spec.stages)


def _gone_by_then(model: GraphModel, whole: GraphModel, spec: TrainSpec) -> Iterator[Problem]:
    """Yield paths with the number of a repeat that do not fit yet, when their stage begins."""
    now, later = ([path for path, _ in one.slots()] for one in (model, whole))
    grows = next((place for place, stage in enumerate(spec.stages) if stage.grow), 0)
    for place, stage in enumerate(spec.stages[:grows]):
        for name in ("freeze", "unfreeze"):
            match = getattr(stage, name)
            if match is None or any(fits(path, match) for path in now):
                continue
            if any(fits(path, match) for path in later):
                yield Problem(
                    f"stages[{place}].{name}",
                    "fits nothing yet, only what a later stage adds",
                    got=repr(match),
                )
