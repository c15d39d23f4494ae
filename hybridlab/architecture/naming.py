"""Names in the nodes of a text: which are read, which are free, and how readers follow a change. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybridlab.architecture.document import implied_ids
from hybridlab.architecture.spec import INPUT


def pin(nodes: Any, around: set[str]) -> bool:
    """Write out ids that are only implied but referred to, so that an edit cannot make them mean another node.

    Returns whether there were any.
    """
    if not isinstance(nodes, list):
        return False
    pinned = False
    named = around | set(names_read(nodes))
    for node, name in zip(nodes, implied_ids(nodes), strict=True):
        if isinstance(node, dict):
            if "id" not in node and name in named:
                pinned = True
                node["id"] = name
                if isinstance(node, CommentedMap):
                    node.move_to_end("id", last=False)
            pinned = pin(node.get("nodes"), named) or pinned
    return pinned


def inputs_of(node: Any) -> list[str]:
    """Return the names that a node is written to read; none where it reads the node above."""
    wanted = node.get("inputs")
    return [wanted] if isinstance(wanted, str) else [str(name) for name in wanted or ()]


def is_read(nodes: Any, name: str) -> bool:
    """Say whether nodes, or those in them that mean the same by it, read a name."""
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict):
            inner = node.get("nodes")
            if name in inputs_of(node) or (not _has(inner, name) and is_read(inner, name)):
                return True
    return False


def _has(nodes: Any, name: str) -> bool:
    """Say whether a node of that id is written among these."""
    return isinstance(nodes, list) and any(
        isinstance(node, dict) and node.get("id") == name for node in nodes
    )


def names_read(nodes: Any) -> Iterator[str]:
    """Yield every name that nodes and the nodes in them refer to in ``inputs`` and ``share``, as often as they do."""
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict):
            yield from inputs_of(node)
            yield from filter(None, str(node.get("share") or "").split("."))
            yield from names_read(node.get("nodes"))


def names_in(nodes: Any) -> Iterator[str]:
    """Yield every id that is written and every name that is read, at any depth."""
    yield from names_read(nodes)
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict):
            yield str(node.get("id"))
            yield from names_in(node.get("nodes"))


def fresh(base: str, taken: set[Any]) -> str:
    """Return a name that is not taken: the base, else the base numbered on."""
    stem = re.sub(r"_\d+$", "", base)
    name, number = base, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return name


def read_by(siblings: Any, index: int) -> list[str]:
    """Return the names that a node reads: its inputs, or the node above."""
    if wanted := inputs_of(siblings[index]):
        return wanted
    if not index:
        return [INPUT]
    write_id(siblings, index - 1)
    return [str(siblings[index - 1]["id"])]


def write_id(siblings: Any, index: int, beside: Any = ()) -> None:
    """Write out the id that a node's place implies, since others are about to refer to it."""
    node = siblings[index]
    if "id" not in node:
        taken = {item.get("id") for item in beside if isinstance(item, dict)}
        node["id"] = fresh(implied_ids(siblings)[index], taken)
        node.move_to_end("id", last=False)


def rename_inputs(nodes: Any, old: str, new: list[str]) -> None:
    """Let nodes, and those in them that mean the same by it, read ``new`` where they read ``old``."""
    for node in nodes:
        if not isinstance(node, dict):
            continue
        names = inputs_of(node)
        if old in names:
            merged = [item for name in names for item in (new if name == old else [name])]
            # One that is read already is not read once more; one that was read twice goes on being.
            node["inputs"] = flow_list(dict.fromkeys(merged) if set(new) & set(names) else merged)
        inner = node.get("nodes")
        if isinstance(inner, list) and not _has(inner, old):
            rename_inputs(inner, old, new)


def flow_list(value: Any) -> CommentedSeq:
    """Return values as a list that YAML writes on one line."""
    sequence = CommentedSeq(list(value))
    sequence.fa.set_flow_style()
    return sequence
