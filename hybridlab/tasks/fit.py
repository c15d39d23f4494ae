"""Brings an architecture and a task together, or says in a sentence why they do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hybridlab.architecture.complete import complete
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, SpecError, TaskError
from hybridlab.tasks.base import Task

_TOP = re.compile(r"nodes\[(\d+)\]")


def fit(architecture: Architecture, task: Task) -> Architecture:
    """Return the architecture with the input and head that it leaves out, checked against the task.

    Raises:
        SpecError: the architecture itself has errors; paths are those of the architecture as it was given.
        TaskError: it reads another kind of input, answers with other logits, or sees the answers ahead.
    """
    completed = complete(architecture, task.input_node(), task.head_node(), kind_of)
    unread = list(wrong_input(completed, task))
    if unread:
        raise TaskError(as_given(unread, architecture, completed))
    inference = infer(completed, task.input_type(), length=task.length)
    if inference.errors:
        raise SpecError(as_given(inference.errors, architecture, completed))
    problems = [*_wrong_output(completed, inference, task)] or [*_wrong_head(completed, task)]
    if task.needs_causal:
        problems += sees_ahead(inference)
    if problems:
        raise TaskError(as_given(problems, architecture, completed))
    return completed


def kind_of(name: str) -> str | None:
    """Return the family of a component, None for one that is not known."""
    info = palette().get(name)
    return info.kind if info is not None else None


def as_given(
    problems: Iterable[Problem], given: Architecture, completed: Architecture
) -> list[Problem]:
    """Count the nodes as in the architecture that was given, without those that the task supplied."""
    own = {node.id for node in given.nodes}
    supplied = int(completed.nodes[0].id not in own)

    def path(match: re.Match[str]) -> str:
        index = int(match[1]) - supplied
        if index < 0:
            return "the task's input"
        return f"nodes[{index}]" if index < len(given.nodes) else "the task's head"

    return [replace(problem, path=_TOP.sub(path, problem.path, count=1)) for problem in problems]


def wrong_input(completed: Architecture, task: Task) -> Iterator[Problem]:
    """Yield the inputs at the top that cannot read what a task gives."""
    given = task.input_type()
    for index, node in enumerate(completed.nodes):
        info = palette().get(node.use or "")
        reads_task = node.inputs is None and index == 0
        if info is None or info.kind is not Kind.INPUT or not reads_task:
            continue
        if given.kind not in info.cls.accepts:
            yield Problem(
                f"nodes[{index}]",
                f"{node.use} cannot read the {given.kind} of {task.name}",
                " or ".join(sorted(info.cls.accepts)),
                str(given),
                f"use {task.input_node()['use']}, or remove the node and the task supplies it",
            )


def _wrong_output(completed: Architecture, inference: Inference, task: Task) -> Iterator[Problem]:
    wanted, given = task.output_type(), inference.output
    if given is None or matches(given, wanted):
        return
    last = inference.scope.output if inference.scope is not None else ""
    index = next((i for i, node in enumerate(completed.nodes) if node.id == last), -1)
    yield Problem(
        f"nodes[{index}]" if index >= 0 else "nodes",
        f"the output does not answer {task.name}",
        str(wanted),
        str(given),
        "bring it back to every position with upsample"
        if _only_length_differs(given, wanted)
        else f"use {written(task.head_node())}, or remove the head and the task supplies it",
    )


def _wrong_head(completed: Architecture, task: Task) -> Iterator[Problem]:
    wanted, last = task.head_node(), completed.nodes[-1]
    if task.needs_own_head and last.use != wanted["use"]:
        yield Problem(
            f"nodes[{len(completed.nodes) - 1}]",
            f"{task.name} is about what its own head can tell; another one sees the answers",
            str(wanted["use"]),
            str(last.use or "a group of nodes"),
            f"use {written(wanted)}, or remove the head and the task supplies it",
        )


def matches(given: TensorType, wanted: TensorType) -> bool:
    """Say whether logits are of the shape that a task's loss takes; lengths may differ in name."""
    return (
        given.kind is wanted.kind
        and len(given.shape) == len(wanted.shape)
        and given.shape[1:] == wanted.shape[1:]
    )


def _only_length_differs(given: TensorType, wanted: TensorType) -> bool:
    return (
        given.kind is wanted.kind
        and len(given.shape) == len(wanted.shape) == 3
        and given.shape[2] == wanted.shape[2]
    )


def sees_ahead(inference: Inference) -> Iterator[Problem]:
    """Yield the components that see positions further on."""
    told = set()
    for slot in inference.slots.values():
        if slot.info.cls.causal(slot.params) is False and slot.file_path not in told:
            told.add(slot.file_path)
            yield Problem(
                slot.file_path,
                f"{slot.info.name} sees positions further on, where a language model's answers are",
                "a causal component",
                "one that is not causal",
                "set causal: true"
                if "causal" in type(slot.params).model_fields
                else "use another one",
            )


def written(node: dict[str, object]) -> str:
    """Return a node as it stands in a file."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in node.items()) + "}"
