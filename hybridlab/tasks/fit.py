"""Brings an architecture and a task together, or says in a sentence why they do not fit."""

from __future__ import annotations

from collections.abc import Iterator

from hybridlab.architecture.complete import complete
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, SpecError, TaskError
from hybridlab.tasks.base import Task


def fit(architecture: Architecture, task: Task) -> Architecture:
    """Return the architecture with the input and head that it leaves out, checked against the task.

    Raises:
        SpecError: the architecture itself has errors.
        TaskError: it reads another kind of input, answers with other logits, or sees the answers ahead.
    """
    completed = complete(architecture, task.input_node(), task.head_node(), _kind_of)
    first = [node for node in completed.nodes if _kind_of(node.use or "") == Kind.INPUT]
    for node in first:
        accepts = palette()[node.use or ""].cls.accepts
        if task.input_type().kind not in accepts and node.inputs is None:
            raise TaskError(
                Problem(
                    f"nodes.{node.id}",
                    f"{node.use} cannot read the {task.input_type().kind} of {task.name}",
                    " or ".join(sorted(accepts)),
                    str(task.input_type()),
                    f"use {task.input_node()['use']}, or remove the node and the task supplies it",
                )
            )
    inference = infer(completed, task.input_type(), length=task.length)
    if inference.errors:
        raise SpecError(inference.errors)
    problems = [
        *_wrong_output(inference, task),
        *(_sees_ahead(inference) if task.needs_causal else ()),
    ]
    if problems:
        raise TaskError(problems)
    return completed


def _kind_of(name: str) -> str | None:
    info = palette().get(name)
    return info.kind if info is not None else None


def _wrong_output(inference: Inference, task: Task) -> Iterator[Problem]:
    wanted, given = task.output_type(), inference.output
    if given is None or _matches(given, wanted):
        return
    last = inference.scope.output if inference.scope is not None else ""
    yield Problem(
        f"nodes.{last}",
        f"the output does not answer {task.name}",
        str(wanted),
        str(given),
        f"use {_written(task.head_node())}, or remove the head and the task supplies it",
    )


def _matches(given: TensorType, wanted: TensorType) -> bool:
    return (
        given.kind is wanted.kind
        and len(given.shape) == len(wanted.shape)
        and given.shape[-1] == wanted.shape[-1]
    )


def _sees_ahead(inference: Inference) -> Iterator[Problem]:
    told = set()
    for slot in inference.slots.values():
        if slot.info.cls.causal(slot.params) is False and slot.file_path not in told:
            told.add(slot.file_path)
            yield Problem(
                slot.file_path,
                f"{slot.info.name} sees positions further on, and a language model's answers stand there",
                "a causal component",
                "one that is not causal",
                "set causal: true"
                if "causal" in type(slot.params).model_fields
                else "use another one",
            )


def _written(node: dict[str, object]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in node.items()) + "}"
