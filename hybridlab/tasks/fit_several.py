"""Brings an architecture and one or several tasks together: one head for each task, all behind the same trunk."""

from __future__ import annotations

from collections.abc import Iterator

from hybridlab.architecture.heads import Asked, claimed, with_heads
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, SpecError, TaskError
from hybridlab.tasks import fit as single
from hybridlab.tasks.base import Task
from hybridlab.tasks.several import SeveralTasks


def fit(architecture: Architecture, task: Task) -> Architecture:
    """Return the architecture with the input and heads that it leaves out, checked against the task or tasks.

    The head of the first of several tasks comes last, so that it is what the model gives.

    Raises:
        SpecError: the architecture itself has errors.
        TaskError: it reads another kind of input, answers with other logits, sees the answers ahead, or its heads and
            the tasks cannot be told apart.
    """
    if not isinstance(task, SeveralTasks):
        return single.fit(architecture, task)
    asked = _asked(task)
    _, problems = claimed(architecture, asked, single.kind_of)
    if problems:
        raise TaskError(problems)
    completed = with_heads(architecture, task.input_node(), asked, single.kind_of)
    unread = list(single.wrong_input(completed, task.first))
    if unread:
        raise TaskError(single.as_given(unread, architecture, completed))
    inference = infer(completed, task.input_type(), length=task.length)
    if inference.errors:
        raise SpecError(single.as_given(inference.errors, architecture, completed))
    wrong = [*_wrong_outputs(architecture, completed, inference, task)]
    if task.needs_causal:
        wrong += single.as_given(single.sees_ahead(inference), architecture, completed)
    if wrong:
        raise TaskError(wrong)
    return completed


def heads_of(architecture: Architecture, task: SeveralTasks) -> tuple[str, ...]:
    """Return the id of each task's head in an architecture that ``fit`` returned."""
    heads, _ = claimed(architecture, _asked(task), single.kind_of)
    return tuple(heads[part.name] for part in task.parts)


def _asked(task: SeveralTasks) -> list[Asked]:
    return [Asked(part.name, part.task.head_node(), part.head) for part in task.parts]


def _wrong_outputs(
    architecture: Architecture, completed: Architecture, inference: Inference, task: SeveralTasks
) -> Iterator[Problem]:
    """Yield the heads whose logits are not those that their task's loss takes."""
    ids = [node.id for node in architecture.nodes]
    for part, head in zip(task.parts, heads_of(completed, task), strict=True):
        given, wanted = inference.edges[head], part.task.output_type()
        if not single.matches(given, wanted):
            yield Problem(
                f"nodes[{ids.index(head)}]" if head in ids else "the task's head",
                f"the head {head!r} does not answer {part.name}",
                str(wanted),
                str(given),
                f"use {single.written(part.task.head_node())}, or remove the head and one is supplied",
            )
