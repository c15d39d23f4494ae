"""Edits of an architecture's text, the way a page or a canvas makes them; comments and order are kept. Free of torch.

Every function takes YAML text and returns new text. Nodes are addressed as in error messages: ``nodes[1].nodes[0]``.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybridlab.architecture import recent, share_paths
from hybridlab.architecture.document import contents, implied_ids, plain, read_yaml, write_yaml
from hybridlab.architecture.grouping import gather, scatter
from hybridlab.architecture.naming import (
    flow_list,
    fresh,
    names_read,
    pin,
    read_by,
    rename_inputs,
    write_id,
)
from hybridlab.architecture.spec import NODE_KEYS
from hybridlab.architecture.splice import Line
from hybridlab.errors import Problem, SpecError

_STEP = re.compile(r"nodes\[(\d+)\]")
EMPTY = "name: untitled\nwidth: 64\nnodes: []\n"


def set_field(text: str, key: str, value: Any) -> str:
    """Set a field of the architecture itself, such as ``name`` or ``width``; None removes it."""
    return _edited(text, lambda root: _assign(root, key, value))


def set_parameter(text: str, path: str, key: str, value: Any) -> str:
    """Set a parameter or a field of a node; None removes it, which brings back its default."""
    if key in NODE_KEYS:
        return _edited(text, lambda root: _assign(_node(root, path), key, value))
    root = recent.take_root(text, placed=True)
    if root is None:
        root = _mapping(read_yaml(text))
    pinned = pin(root.get("nodes"), set())
    node = _node(root, path)
    line = Line(text, node)
    _assign(node, key, value)
    written = line.replaced() if line.found and not pinned else None
    if written is None:
        return _write(root)
    return _remembered(written, root, placed=True)


def add(
    text: str, node: dict[str, Any], after: str | None = None, *, into: str | None = None
) -> str:
    """Insert a node behind the one at ``after``, at the end of the group at ``into``, or at the very end."""

    def change(root: Any) -> None:
        written = _written(node)
        if after is not None:
            siblings, index = _place(root, after)
            _insert(siblings, index + 1, written)
        else:
            holder = _node(root, into) if into else root
            siblings = holder.setdefault("nodes", CommentedSeq())
            _insert(siblings, len(siblings), written)

    return _edited(text, change)


def add_all(text: str, nodes: list[dict[str, Any]], after: str) -> str:
    """Insert nodes in a row behind the one at ``after``; the text is written once, however many they are."""

    def change(root: Any) -> None:
        siblings, index = _place(root, after)
        for offset, node in enumerate(nodes, 1):
            _insert(siblings, index + offset, _written(node))

    return _edited(text, change) if nodes else text


def insert(text: str, at: str, node: dict[str, Any]) -> str:
    """Insert a node so that it has an address; further than the end is the end."""
    head, _, last = at.rpartition("nodes[")

    def change(root: Any) -> None:
        holder = _node(root, head.removesuffix(".")) if head else root
        siblings = holder.setdefault("nodes", CommentedSeq())
        _insert(siblings, min(int(last.removesuffix("]")), len(siblings)), _written(node))

    return _edited(text, change)


def carry(text: str, path: str, at: str, node: dict[str, Any]) -> str:
    """Copy the node at ``path``, comments and all, to another address; id and inputs are those of ``node``."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        comment = siblings.ca.items.get(index) if isinstance(siblings, CommentedSeq) else None
        twin = copy.deepcopy(siblings[index])
        for key in ("id", "inputs"):
            _assign(twin, key, node.get(key))
        if "id" in twin:
            twin.move_to_end("id", last=False)
        head, _, last = at.rpartition("nodes[")
        holder = _node(root, head.removesuffix(".")) if head else root
        place = min(int(last.removesuffix("]")), len(holder["nodes"]))
        _insert(holder["nodes"], place, twin)
        if comment is not None:
            holder["nodes"].ca.items[place] = copy.deepcopy(comment)

    return _edited(text, change)


def siblings_at(text: str, head: str) -> list[Any]:
    """Return the nodes whose addresses begin with ``head``, such as ``nodes[1].``, as plain values."""
    content = contents(text)[0]
    for step in filter(None, head.split(".")):
        content = content["nodes"][int(step.removeprefix("nodes[").removesuffix("]"))]
    return list(content.get("nodes") or [])


def remove(text: str, path: str) -> str:
    """Remove a node; nodes that named it in ``inputs`` read what it read, and a group left empty goes too."""

    def change(root: Any) -> None:
        here = path
        while here:
            siblings, index = _place(root, here)
            gone = siblings[index]
            read = isinstance(gone, dict) and gone.get("id") in set(names_read(siblings))
            replacement = read_by(siblings, index) if read else []
            del siblings[index]
            if read:
                rename_inputs(siblings, gone["id"], replacement)
            here = "" if siblings else here.rpartition(".")[0]

    return _edited(text, change)


def replace(text: str, path: str, use: str, known: list[str]) -> str:
    """Put another component in a node's place, keeping its id, inputs and the parameters in ``known``."""

    def change(root: Any) -> None:
        node = _node(root, path)
        for key in [key for key in node if key not in NODE_KEYS and key not in known]:
            del node[key]
        node["use"] = use

    return _edited(text, change)


def move(text: str, path: str, by: int) -> str:
    """Move a node up (negative) or down among its siblings; it stops at the ends."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        target = max(0, min(len(siblings) - 1, index + by))
        if target == index:
            return
        item = siblings[index]
        comments = dict(siblings.ca.items)
        order = list(range(len(siblings)))
        order.insert(target, order.pop(index))
        moved = [siblings[place] for place in order]
        for place, value in enumerate(moved):
            siblings[place] = value
        siblings.ca.items.clear()
        for place, old in enumerate(order):
            if old in comments:
                siblings.ca.items[place] = comments[old]
        assert siblings[target] is item

    return _edited(text, change)


def duplicate(text: str, path: str) -> str:
    """Copy a node behind itself; ids inside its siblings' group stay unique."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        twin = _written(plain(copy.deepcopy(siblings[index]))[0])
        if "id" in twin:
            taken = {node.get("id") for node in siblings if isinstance(node, dict)}
            twin["id"] = fresh(str(twin["id"]), taken)
        _insert(siblings, index + 1, twin)

    return _edited(text, change)


def wrap(
    text: str, path: str, *, repeat: int = 2, group_id: str | None = None, count: int = 1
) -> str:
    """Put a node, and as many of those after it as ``count`` says, into a new group that repeats.

    Raises:
        SpecError: a node outside reads one of them that is not the last, which is all that a group hands on.
    """

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        scopes = share_paths.around(root, path)
        gather(siblings, index, count, repeat=repeat, group_id=group_id, path=path)
        group = siblings[index]
        for name in [node["id"] for node in group["nodes"] if "id" in node]:
            share_paths.follow(scopes, name, f"{group['id']}.{name}")

    return _edited(text, change)


def unwrap(text: str, path: str) -> str:
    """Put a group's nodes in its place, once; its repeat is given up.

    Raises:
        SpecError: there is no group, or another shares its weights as a whole.
    """

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        if "nodes" not in siblings[index]:
            raise SpecError(Problem(path, "is not a group", "a node that holds nodes"))
        scatter(siblings, index, share_paths.around(root, path), path=path)

    return _edited(text, change)


def rename(text: str, path: str, new_id: str) -> str:
    """Give a node another id; siblings and nodes inside them that read it follow, and so do those that share weights.

    Groups that share weights as a whole have nodes of the same ids, so the node at its place in those follows too.
    """

    def change(root: Any) -> None:
        _place(root, path)
        places = share_paths.twins(root, path)
        for here in places:
            siblings, index = _place(root, here)
            old = implied_ids(siblings)[index]
            for place in range(len(siblings) if len(places) > 1 else 0):
                write_id(siblings, place)
            scopes = share_paths.around(root, here)
            siblings[index]["id"] = new_id
            siblings[index].move_to_end("id", last=False)
            rename_inputs(siblings, old, [new_id])
            share_paths.follow(scopes, old, new_id)

    return _edited(text, change)


def read_field(text: str, path: str) -> dict[str, Any]:
    """Return a node as plain values, the way the file writes it."""
    return dict(plain(_node(read_yaml(text), path))[0])


def _edited(text: str, change: Any) -> str:
    root = recent.take_root(text)
    if root is None:
        root = _mapping(read_yaml(text))
    pin(root.get("nodes"), set())
    change(root)
    return _write(root)


def _mapping(root: Any) -> Any:
    if not isinstance(root, dict):
        raise SpecError(
            Problem("", "this is not an architecture", "a mapping with name, width and nodes")
        )
    return root


def _write(root: Any) -> str:
    return _remembered(write_yaml(root), root)


def _remembered(written: str, root: Any, *, placed: bool = False) -> str:
    content, problems = plain(root)
    if not problems:
        recent.remember(written, root, content, placed=placed)
    return written


def _place(root: Any, path: str) -> tuple[Any, int]:
    steps = [int(step) for step in _STEP.findall(path)]
    holder = root
    try:
        for index in steps[:-1]:
            holder = holder["nodes"][index]
        siblings = holder["nodes"]
        siblings[steps[-1]]
    except (KeyError, IndexError, TypeError):
        raise SpecError(Problem(path, "there is no such node", "a node's address")) from None
    return siblings, steps[-1]


def _node(root: Any, path: str) -> Any:
    siblings, index = _place(root, path)
    return siblings[index]


def _assign(holder: Any, key: str, value: Any) -> None:
    if value is None:
        holder.pop(key, None)
    else:
        holder[key] = flow_list(value) if isinstance(value, (list, tuple)) else value


def _written(node: dict[str, Any]) -> CommentedMap:
    result = CommentedMap()
    for key, value in node.items():
        if key == "nodes":
            result[key] = CommentedSeq([_written(child) for child in value])
        else:
            result[key] = flow_list(value) if isinstance(value, (list, tuple)) else value
    if "nodes" not in node:
        result.fa.set_flow_style()
    return result


def _insert(siblings: Any, index: int, node: Any) -> None:
    if isinstance(siblings, CommentedSeq):
        siblings.fa.set_block_style()
    siblings.insert(index, node)
