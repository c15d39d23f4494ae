"""Paths in ``share`` as a text writes them: whom they name, and how they follow an edit. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hybridlab.architecture.document import implied_ids

Scopes = list[tuple[Any, str]]
"""Siblings, innermost first, each with the path from there to the first: ``""``, ``inner.``, ``outer.inner.``."""
_STEP = re.compile(r"nodes\[(\d+)\]")


def around(root: Any, path: str) -> Scopes:
    """Return the siblings of the node at an address, and those of every group around it."""
    rows, ids, holder = [], [], root
    for index in map(int, _STEP.findall(path)):
        rows.append(holder["nodes"])
        ids.append(f"{implied_ids(rows[-1])[index]}.")
        holder = rows[-1][index]
    return [(rows[at], "".join(ids[at:-1])) for at in reversed(range(len(rows)))]


def follow(scopes: Scopes, old: str, new: str) -> None:
    """Let nodes that share the weights of a node of the first of these scopes, or of one in it, name it anew."""
    for nodes, prefix in scopes:
        _rename(nodes, f"{prefix}{old}", f"{prefix}{new}")


def _rename(nodes: Any, old: str, new: str) -> None:
    for node in _meaning(nodes, old.partition(".")[0]):
        share = str(node.get("share") or "")
        if f"{share}.".startswith(f"{old}."):
            node["share"] = f"{new}{share[len(old) :]}"


def shared(scopes: Scopes, name: str) -> Iterator[str]:
    """Yield what of a node of the first scope is shared somewhere: ``""`` for the whole, ``block.mix`` for a part."""
    for nodes, prefix in scopes:
        path = f"{prefix}{name}."
        for node in _meaning(nodes, path.partition(".")[0]):
            share = f"{node.get('share') or ''}."
            if share.startswith(path):
                yield share[len(path) : -1]


def _meaning(nodes: Any, first: str) -> Iterator[Any]:
    """Yield nodes, and those in them that mean the same by a name."""
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict):
            yield node
            inner = node.get("nodes")
            if isinstance(inner, list) and first not in implied_ids(inner):
                yield from _meaning(inner, first)


def twins(root: Any, path: str) -> list[str]:
    """Return the address of a node, and of those at its place in groups that share weights with a group around it."""
    pairs = list(_pairs(root, root.get("nodes"), "", []))
    found = [path]
    for here in found:
        for one, other in (*pairs, *((other, one) for one, other in pairs)):
            twin = f"{other}{here[len(one) :]}"
            if (
                here.startswith(f"{one}.")
                and twin not in found
                and _id(root, twin) == _id(root, path)
            ):
                found.append(twin)
    return found


def _pairs(root: Any, nodes: Any, head: str, rows: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield the address of every group that shares weights as a whole with that of the group it names."""
    rows = [*rows, (head, nodes)]
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if isinstance(node, dict) and isinstance(node.get("nodes"), list):
            here = f"{head}nodes[{index}]"
            if node.get("share") and (lender := _named(rows, str(node["share"]))):
                yield here, lender
            yield from _pairs(root, node["nodes"], f"{here}.", rows)


def _named(rows: list[Any], share: str) -> str | None:
    """Return the address that a path of ids leads to, as it is found from within the last of these scopes."""
    first, *inward = share.split(".")
    row = next(
        ((head, nodes) for head, nodes in reversed(rows) if first in implied_ids(nodes)), None
    )
    if row is None:
        return None
    path: str = row[0]
    nodes: Any = row[1]
    for name in (first, *inward):
        if not isinstance(nodes, list) or name not in (ids := implied_ids(nodes)):
            return None
        path += f"nodes[{ids.index(name)}]."
        node = nodes[ids.index(name)]
        nodes = node.get("nodes") if isinstance(node, dict) else None
    return path.removesuffix(".")


def _id(root: Any, path: str) -> str | None:
    nodes, name = root, None
    for index in map(int, _STEP.findall(path)):
        siblings = nodes.get("nodes") if isinstance(nodes, dict) else None
        if not isinstance(siblings, list) or index >= len(siblings):
            return None
        nodes, name = siblings[index], implied_ids(siblings)[index]
    return name
