"""Writes what a merge came to as text, with the comments and the order that the nodes had where they come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybridlab.architecture.document import dump, implied_ids, parse, plain, read_yaml, write_yaml
from hybridlab.architecture.merging.parts import Part
from hybridlab.architecture.merging.reads import walk
from hybridlab.architecture.spec import ARCHITECTURE_KEYS, Architecture, Node
from hybridlab.errors import SpecError

_STEP = re.compile(r"nodes\[(\d+)\]")
Version = tuple[str, Architecture]
Raws = dict[int, tuple[Any, Any]]
"""Nodes as they were read, with the comments beside them, by their parts."""


def as_text(
    architecture: Architecture, parts: list[Part], texts: Sequence[Version], first: Version
) -> str:
    """Return an architecture as text; ``parts`` are its nodes, which know where they come from.

    ``texts`` are those of mine and theirs; where both say just this, it is the ``first`` that is taken.

    Raises:
        SpecError: it is too large for one file.
    """
    for text, version in (first, *texts):
        if version == architecture:
            return text
    (mine, _), (theirs, _) = texts
    written = _composed(architecture, parts, mine, theirs)
    if written is not None and parse(written)[0] == architecture:
        return written
    written = dump(architecture)
    problems = parse(written)[1]
    if problems:
        raise SpecError(problems)
    return written


def _composed(architecture: Architecture, parts: list[Part], mine: str, theirs: str) -> str | None:
    """Return the text put together from the two, or None where they are written in a way that does not allow it."""
    roots = {"mine": read_yaml(mine), "theirs": read_yaml(theirs)}
    root = roots["mine"]
    if not all(isinstance(one, CommentedMap) for one in roots.values()):
        return None
    for key in ARCHITECTURE_KEYS:
        value = getattr(architecture, key)
        if key != "nodes" and root.get(key, Architecture.model_fields[key].default) != value:
            root[key] = value
    raws = {id(part): _raw(part, roots) for part in walk(parts)}  # before any of it is changed
    try:
        root["nodes"] = _siblings(list(architecture.nodes), parts, raws, root["nodes"])
        return write_yaml(root)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _siblings(
    nodes: list[Node], parts: list[Part], raws: Raws, like: CommentedSeq | None
) -> CommentedSeq:
    result = CommentedSeq()
    taken = [raws[id(part)] for part in parts]
    if like is not None and like.fa.flow_style():
        result.fa.set_flow_style()
    if like is not None and like.ca.comment is not None:
        result.ca.comment = like.ca.comment
    short = [
        {"use": node.use} | ({"id": node.id} if part.named or "id" in raw else {})
        for node, part, (raw, _) in zip(nodes, parts, taken, strict=True)
    ]
    every = implied_ids(short) != [node.id for node in nodes]
    for node, part, (raw, comments) in zip(nodes, parts, taken, strict=True):
        _write(raw, node, part, raws, with_id=every or part.named or "id" in raw)
        result.append(raw)
        if comments is not None:
            result.ca.items[len(result) - 1] = comments
    return result


def _raw(part: Part, roots: dict[str, Any]) -> tuple[Any, Any]:
    """Return what a node was read as, and the comments beside it."""
    item = part.mine or part.theirs
    assert item is not None
    steps = [int(step) for step in _STEP.findall(item.path)]
    holder = roots["mine" if part.mine else "theirs"]
    for index in steps[:-1]:
        holder = holder["nodes"][index]
    siblings = holder["nodes"]
    return siblings[steps[-1]], siblings.ca.items.get(steps[-1])


def _write(raw: Any, node: Node, part: Part, raws: Raws, *, with_id: bool) -> None:
    """Make a node say what it should, touching nothing that it says already."""
    wanted: dict[str, Any] = dict(node.params)
    if node.use is not None:
        wanted["use"] = node.use
    if node.inputs is not None:
        wanted["inputs"] = list(node.inputs)
    if node.residual is not None:
        wanted["residual"] = str(node.residual)
    for key in ("repeat", "tie", "share", "lora"):
        if getattr(node, key) != Node.model_fields[key].default or key in raw:
            wanted[key] = getattr(node, key)
    for key in [key for key in raw if key not in wanted and key not in ("id", "nodes")]:
        del raw[key]
    for key, value in wanted.items():
        if key not in raw or not _says(raw[key], value):
            raw[key] = _flow(value) if isinstance(value, list) else value
    if with_id and raw.get("id") != node.id:
        if "id" in raw:
            raw["id"] = node.id
        else:
            raw.insert(0, "id", node.id)
    if node.nodes:
        raw["nodes"] = _siblings(list(node.nodes), part.children, raws, raw.get("nodes"))


def _says(raw: Any, value: Any) -> bool:
    said = plain(raw)[0]
    same = said == value or (isinstance(value, list) and [said] == value)
    return bool(same) and (isinstance(value, list) or type(said) is type(value))


def _flow(value: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence
