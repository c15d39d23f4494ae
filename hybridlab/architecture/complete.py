"""Supplies the input and the head that an architecture leaves out. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybridlab.architecture.spec import Architecture, Node


def complete(
    architecture: Architecture,
    input_node: dict[str, Any],
    head_node: dict[str, Any],
    kind_of: Callable[[str], str | None],
) -> Architecture:
    """Put an input before and a head behind an architecture where it has none of its own.

    ``input_node`` and ``head_node`` are written as in a file, such as ``{"use": "classifier", "classes": 10}``;
    ``kind_of`` gives a component's kind by name (None where it is unknown).
    """
    nodes = architecture.nodes
    names = {node.id for node in nodes}
    if not any(_holds(node, "input", kind_of) for node in nodes):
        first = _node(input_node, names)
        nodes = (first, *(_reading(node, first.id) for node in nodes))
    if not any(_holds(node, "head", kind_of) for node in nodes):
        nodes = (*nodes, _node(head_node, names))
    return architecture.model_copy(update={"nodes": nodes})


def _holds(node: Node, kind: str, kind_of: Callable[[str], str | None]) -> bool:
    if node.is_group:
        return any(_holds(child, kind, kind_of) for child in node.nodes)
    return kind_of(node.use or "") == kind


def _node(written: dict[str, Any], names: set[str]) -> Node:
    name = base = str(written["use"])
    number = 2
    while name in names:
        name, number = f"{base}_{number}", number + 1
    names.add(name)
    params = {key: value for key, value in written.items() if key != "use"}
    return Node(id=name, use=base, params=params)


def _reading(node: Node, source: str) -> Node:
    """Let a top-level node that reads the architecture's raw input read the new input node instead."""
    if node.inputs is None or "input" not in node.inputs:
        return node
    inputs = tuple(source if name == "input" else name for name in node.inputs)
    return node.model_copy(update={"inputs": inputs})
