"""Finding who teaches: a finished run's folder, or an architecture with a file of weights, checked against the task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import find
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.runs.home import home, run_folder
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.tasks.registry import task as make_task
from hybridlab.training.defaults import task_of
from hybridlab.training.spec import make
from hybridlab.training.teacher_spec import LATEST, TeacherSpec
from hybridlab.training.weights import load_weights, read_tensors

ARCHITECTURE, TRAINING, WEIGHTS = "architecture.yaml", "training.json", "weights.safetensors"
"""What a finished run leaves in its folder."""


@dataclass(frozen=True)
class Teacher:
    """A network that has learnt, as it lies on disk; it reads the batches of the student's task."""

    architecture: Architecture
    """With its input and its head."""
    weights: Path
    run: str | None
    """The run that it comes from, where it does."""

    def build(self, task: Task, device: torch.device | str) -> GraphModel:
        """Return it with its weights on a device: evaluated, no gradients, and no sample leaves early.

        Raises:
            SpecError: the weights cannot be read, or are those of another architecture.
        """
        model = build(self.architecture, task.input_type(), seed=0)
        try:
            load_weights(model, read_tensors(self.weights), self.weights)
        except HybridLabError as error:
            raise SpecError(
                [replace(p, path=f"teacher: {p.path}", fix="") for p in error.problems]
            ) from None
        model.leaving = False
        return model.requires_grad_(False).eval().to(device)


def find_teacher(spec: TeacherSpec, task: Task) -> Teacher:
    """Find who teaches and check that it reads a task's batches and answers with its classes; no weights are read.

    Raises:
        SpecError: there is no such run, architecture or file; the run is not finished; or it does not fit the task.
    """
    if spec.run is not None:
        run = newest(spec.run.removeprefix(LATEST), task.name) if _is_latest(spec) else spec.run
        architecture, weights = _of_run(run)
        return Teacher(_fitted(architecture, task, "teacher.run"), weights, run)
    assert spec.architecture is not None and spec.weights is not None
    try:
        path = find(spec.architecture)
        architecture = loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(Problem("teacher.architecture", f"cannot be read: {error}")) from None
    except SpecError as error:
        raise SpecError(_below("teacher.architecture", error)) from None
    weights = Path(spec.weights)
    if not weights.is_file():
        raise SpecError(
            Problem(
                "teacher.weights",
                "there is no such file",
                "safetensors, as `hybridlab import hf DIR --weights OUT` writes them",
                str(weights)[:200],
            )
        )
    return Teacher(_fitted(architecture, task, "teacher.architecture"), weights, None)


def settled(spec: TeacherSpec, task: Task) -> TeacherSpec:
    """Return the spec with what may mean something else later made fast: the newest run by its id, files whole.

    Raises:
        SpecError: as ``find_teacher``.
    """
    found = find_teacher(spec, task)
    if found.run is not None:
        return spec.model_copy(update={"run": found.run})
    assert spec.architecture is not None
    whole = str(find(spec.architecture).resolve()), str(found.weights.resolve())
    return spec.model_copy(update=dict(zip(("architecture", "weights"), whole, strict=True)))


def newest(name: str, task: str) -> str:
    """Return the id of the newest finished run of an architecture on a task; ``-`` and ``_`` are one in its name.

    Raises:
        SpecError: there is none in this home.
    """
    for folder in _finished():
        try:
            text = (folder / ARCHITECTURE).read_text(encoding="utf-8")
            trained_on = json.loads((folder / TRAINING).read_text(encoding="utf-8")).get("task")
            if trained_on == task and _plain(loads(text).name) == _plain(name):
                return folder.name
        except (OSError, ValueError, AttributeError, HybridLabError):
            continue  # a folder that is not whole teaches nobody
    raise SpecError(
        Problem(
            "teacher.run",
            f"no run of {name!r} on {task} is finished here",
            "the name of an architecture that was trained on the task in this home",
            f"{LATEST}{name}",
            f"hybridlab train {name} --task {task}",
        )
    )


def _is_latest(spec: TeacherSpec) -> bool:
    return spec.run is not None and spec.run.startswith(LATEST)


def _finished() -> list[Path]:
    """Return the folders of finished runs, newest weights first."""
    found = []
    for path in (home() / "runs").glob(f"*/{WEIGHTS}"):
        try:
            found.append((path.stat().st_mtime_ns, path.parent.name, path.parent))
        except OSError:
            continue  # deleted in between
    return [folder for _, _, folder in sorted(found, reverse=True)]


def _of_run(run: str) -> tuple[Architecture, Path]:
    """Return a finished run's architecture, with the input and the heads of its own task or tasks, and its weights."""
    try:
        folder = run_folder(run)
    except HybridLabError as error:
        raise SpecError(_below("teacher.run", error)) from None
    if not (folder / WEIGHTS).is_file():
        there = folder.is_dir()
        raise SpecError(
            Problem(
                "teacher.run",
                "this run is not finished" if there else "there is no such run in this home",
                "a run that is done",
                run[:80],
                "resume it, or name another one; `hybridlab runs` lists them",
            )
        )
    try:
        text = (folder / ARCHITECTURE).read_text(encoding="utf-8")
        training = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
        params = dict(training.get("task_params") or {})
        several = training.get("tasks")
        # The head of the first of several tasks is what such a run answers, and its other heads teach nobody.
        own = task_of(make(training)) if several else make_task(str(training["task"]), **params)
        return fit(loads(text), own), folder / WEIGHTS
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(Problem("teacher.run", f"its folder cannot be read: {error}")) from None
    except HybridLabError as error:
        raise SpecError(_below("teacher.run", error)) from None


def _fitted(architecture: Architecture, task: Task, where: str) -> Architecture:
    """Return the teacher's architecture as it reads the student's task."""
    try:
        fitted = fit(architecture, task)
    except HybridLabError as error:
        raise SpecError(_below(where, error)) from None
    if problems := list(_too_few_tokens(fitted, task, where)):
        raise SpecError(problems)
    return fitted


def _too_few_tokens(fitted: Architecture, task: Task, where: str) -> Iterator[Problem]:
    """Yield a problem where the teacher's embedding has no row for some of the task's tokens."""
    wanted, node = task.input_node().get("vocab"), fitted.nodes[0]
    info = palette().get(node.use or "")
    if task.input_type().kind is not TensorKind.TOKENS or not isinstance(wanted, int) or not info:
        return
    known = info.cls.Params.model_fields.get("vocab")
    given = node.params.get("vocab", known.default if known is not None else wanted)
    if isinstance(given, int) and given < wanted:
        yield Problem(
            where,
            f"the teacher does not know all tokens of {task.name}",
            f"an embedding of at least {wanted} tokens",
            str(given),
            "choose a teacher that was trained with this vocabulary",
        )


def _below(where: str, error: HybridLabError) -> list[Problem]:
    return [
        replace(
            problem,
            path=where,
            message=f"{problem.path}: {problem.message}" if problem.path else problem.message,
            fix="",
        )
        for problem in error.problems
    ]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")
