"""Several heads on one trunk: which task answers at which, and heads that are put behind it. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.complete import complete
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.errors import Problem

PREFIX = "head_"
"""What the id of a supplied head begins with; the task's name follows."""
KindOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Asked:
    """A task's name, the head that it brings as it would stand in a file, and the id of one that is there already."""

    name: str
    node: Mapping[str, Any]
    head: str | None = None


def claimed(
    architecture: Architecture, asked: Sequence[Asked], kind_of: KindOf
) -> tuple[dict[str, str], list[Problem]]:
    """Return the id of the head of each task that the architecture brings one for, and what is wrong about that.

    A task has the head that it names, or the one that is called after it; a single one that is left goes to the first
    task without.
    """
    own = [node.id for node in architecture.nodes if _is_head(node, kind_of)]
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for place, one in enumerate(asked):
        wanted = one.head or f"{PREFIX}{one.name}"
        if wanted in own and wanted not in found.values():
            found[one.name] = wanted
        elif one.head is not None:
            known = ", ".join(own) or "none here; leave it out and a head is supplied"
            message = "is the head of another task" if one.head in own else "is no head here"
            where = f"tasks.of[{place}].head"
            problems.append(Problem(where, message, f"a head at the top: {known}", repr(one.head)))
    free = [name for name in own if name not in found.values()]
    without = [one.name for one in asked if one.name not in found]
    if len(free) == 1 and without:
        found[without[0]] = free.pop()
    if free and not problems:
        problems.append(
            Problem(
                "tasks.of",
                f"no task says that it learns at {', '.join(map(repr, free))}",
                "a task for each head",
                fix="name each in the head of a task, or remove it",
            )
        )
    return found, problems


def with_heads(
    architecture: Architecture,
    input_node: dict[str, Any],
    asked: Sequence[Asked],
    kind_of: KindOf,
) -> Architecture:
    """Supply the input where there is none, and a head for each task without one; the first task's head comes last.

    Supplied heads read what the heads that are there read, else the last node.
    """
    heads, _ = claimed(architecture, asked, kind_of)
    whole = complete(architecture, input_node, dict(asked[0].node), kind_of)
    given = {node.id for node in architecture.nodes}
    nodes = [n for n in whole.nodes if n.id in given or not _is_head(n, kind_of)]
    explicit = [_by_name(nodes, place, kind_of) for place in range(len(nodes))]
    body = [node for node in explicit if node.id not in heads.values()]
    own = {node.id: node for node in explicit}
    trunk = next((own[name].inputs for name in heads.values()), None)
    trunk = trunk or ((body[-1].id,) if body else (INPUT,))
    ends = [
        own[heads[one.name]]
        if one.name in heads
        else _supplied(one.node, f"{PREFIX}{one.name}", trunk)
        for one in asked
    ]
    return whole.model_copy(update={"nodes": (*body, *ends[1:], ends[0])})


def _is_head(node: Node, kind_of: KindOf) -> bool:
    return kind_of(node.use or "") == "head"


def _by_name(nodes: Sequence[Node], place: int, kind_of: KindOf) -> Node:
    """Return a node that names what it reads, where it is a head, which may be moved, or stands below one."""
    node = nodes[place]
    moves = place and (_is_head(node, kind_of) or _is_head(nodes[place - 1], kind_of))
    if node.inputs is not None or not moves:
        return node
    return node.model_copy(update={"inputs": (nodes[place - 1].id,)})


def _supplied(written: Mapping[str, Any], name: str, reads: tuple[str, ...]) -> Node:
    params = {key: value for key, value in written.items() if key != "use"}
    return Node(id=name, use=str(written["use"]), params=params, inputs=reads)


def need_no_reader(
    problems: Sequence[Problem], architecture: Architecture, kind_of: KindOf
) -> list[Problem]:
    """Return the problems of a graph without the warnings that nobody reads a head at the top: a task does."""
    heads = {f"nodes[{i}]" for i, one in enumerate(architecture.nodes) if _is_head(one, kind_of)}
    return [one for one in problems if one.severity == "error" or one.path not in heads]
