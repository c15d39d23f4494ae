"""Edits of an architecture's text, the way a page or a canvas makes them; comments and order are kept. Free of torch.

Every function takes YAML text and returns new text. Nodes are addressed as in error messages: ``nodes[1].nodes[0]``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybridlab.architecture import recent
from hybridlab.architecture.document import contents, implied_ids, plain, read_yaml, write_yaml
from hybridlab.architecture.spec import INPUT, NODE_KEYS
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
    pinned = _pin(root.get("nodes"), set())
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
    index, count = int(last.removesuffix("]")), len(siblings_at(text, head))
    if not count:
        return add(text, node, into=head.removesuffix(".") or None)
    after = min(index, count) - 1
    text = add(text, node, after=f"{head}nodes[{max(after, 0)}]")
    return move(text, f"{head}nodes[1]", -1) if after < 0 else text


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
            read = isinstance(gone, dict) and gone.get("id") in set(_names_read(siblings))
            replacement = _read_by(siblings, index) if read else []
            del siblings[index]
            if read:
                _rename_inputs(siblings, gone["id"], replacement)
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
            twin["id"] = _fresh(str(twin["id"]), taken)
        _insert(siblings, index + 1, twin)

    return _edited(text, change)


def wrap(
    text: str, path: str, *, repeat: int = 2, group_id: str | None = None, count: int = 1
) -> str:
    """Put a node, and as many of those after it as ``count`` says, into a new group that repeats."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        inner = siblings[index : index + max(1, count)]
        first, last = inner[0], inner[-1]
        taken = {item.get("id") for item in siblings if isinstance(item, dict)}
        group = CommentedMap({"id": group_id or _fresh("stage", taken)})
        if repeat != 1:
            group["repeat"] = repeat
        if isinstance(first.get("inputs"), str) or len(first.get("inputs") or ()) == 1:
            group["inputs"] = first.pop("inputs")
        group["nodes"] = CommentedSeq(inner)
        for place in reversed(range(index + 1, index + len(inner))):
            del siblings[place]
        siblings[index] = group
        if last.get("id"):
            _rename_inputs([n for n in siblings if n is not group], last["id"], [group["id"]])

    return _edited(text, change)


def unwrap(text: str, path: str) -> str:
    """Put a group's nodes in its place, once; its repeat is given up."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        group = siblings[index]
        if "nodes" not in group:
            raise SpecError(Problem(path, "is not a group", "a node that holds nodes"))
        children = list(group["nodes"])
        if "inputs" in group and children and "inputs" not in children[0]:
            children[0]["inputs"] = group["inputs"]
        del siblings[index]
        for offset, child in enumerate(children):
            _insert(siblings, index + offset, child)
        if children and group.get("id") in set(_names_read(siblings)):
            _name(children, len(children) - 1, siblings)
            _rename_inputs(siblings, group["id"], [children[-1]["id"]])

    return _edited(text, change)


def rename(text: str, path: str, new_id: str) -> str:
    """Give a node another id; siblings and nodes inside them that read it follow."""

    def change(root: Any) -> None:
        siblings, index = _place(root, path)
        old = implied_ids(siblings)[index]
        siblings[index]["id"] = new_id
        if "id" in siblings[index]:
            siblings[index].move_to_end("id", last=False)
        _rename_inputs(siblings, old, [new_id])

    return _edited(text, change)


def read_field(text: str, path: str) -> dict[str, Any]:
    """Return a node as plain values, the way the file writes it."""
    return dict(plain(_node(read_yaml(text), path))[0])


def _edited(text: str, change: Any) -> str:
    root = recent.take_root(text)
    if root is None:
        root = _mapping(read_yaml(text))
    _pin(root.get("nodes"), set())
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


def _pin(nodes: Any, around: set[str]) -> bool:
    """Write out ids that are only implied but referred to, so that an edit cannot make them mean another node.

    Returns whether there were any.
    """
    if not isinstance(nodes, list):
        return False
    pinned = False
    named = around | set(_names_read(nodes))
    for node, name in zip(nodes, implied_ids(nodes), strict=True):
        if isinstance(node, dict):
            if "id" not in node and name in named:
                pinned = True
                node["id"] = name
                if isinstance(node, CommentedMap):
                    node.move_to_end("id", last=False)
            pinned = _pin(node.get("nodes"), named) or pinned
    return pinned


def _names_read(nodes: Any) -> Iterator[str]:
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict):
            wanted = node.get("inputs")
            yield from [wanted] if isinstance(wanted, str) else map(str, wanted or ())
            yield from _names_read(node.get("nodes"))


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
        holder[key] = _flow(value) if isinstance(value, (list, tuple)) else value


def _flow(value: Any) -> CommentedSeq:
    sequence = CommentedSeq(list(value))
    sequence.fa.set_flow_style()
    return sequence


def _written(node: dict[str, Any]) -> CommentedMap:
    result = CommentedMap()
    for key, value in node.items():
        if key == "nodes":
            result[key] = CommentedSeq([_written(child) for child in value])
        else:
            result[key] = _flow(value) if isinstance(value, (list, tuple)) else value
    if "nodes" not in node:
        result.fa.set_flow_style()
    return result


def _insert(siblings: Any, index: int, node: Any) -> None:
    if isinstance(siblings, CommentedSeq):
        siblings.fa.set_block_style()
    siblings.insert(index, node)


def _fresh(base: str, taken: set[Any]) -> str:
    stem = re.sub(r"_\d+$", "", base)
    name, number = base, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return name


def _read_by(siblings: Any, index: int) -> list[str]:
    """Return the names that a node reads: its inputs, or the node above."""
    node = siblings[index]
    wanted = node.get("inputs")
    if isinstance(wanted, str):
        return [wanted]
    if wanted:
        return list(wanted)
    if not index:
        return [INPUT]
    _name(siblings, index - 1)
    return [str(siblings[index - 1]["id"])]


def _name(siblings: Any, index: int, beside: Any = ()) -> None:
    """Write out the id that a node's place implies, since others are about to refer to it."""
    node = siblings[index]
    if "id" not in node:
        taken = {item.get("id") for item in beside if isinstance(item, dict)}
        node["id"] = _fresh(implied_ids(siblings)[index], taken)
        node.move_to_end("id", last=False)


def _rename_inputs(nodes: Any, old: str, new: list[str]) -> None:
    for node in nodes:
        if not isinstance(node, dict):
            continue
        wanted = node.get("inputs")
        names = [wanted] if isinstance(wanted, str) else list(wanted or [])
        if old in names:
            merged = [item for name in names for item in (new if name == old else [name])]
            node["inputs"] = _flow(dict.fromkeys(merged))
        inner = node.get("nodes")
        if isinstance(inner, list) and not any(
            isinstance(n, dict) and n.get("id") == old for n in inner
        ):
            _rename_inputs(inner, old, new)
