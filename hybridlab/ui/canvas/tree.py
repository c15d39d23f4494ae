"""The nodes of a text as the canvas gets them, even while some of them are wrong."""

from __future__ import annotations

import functools
import re
from typing import Any

from hybridlab.architecture.document import contents, implied_ids
from hybridlab.architecture.spec import NODE_KEYS
from hybridlab.errors import HybridLabError, Problem, SpecError

_STEP = re.compile(r"nodes\[(\d+)\]")
Tree = tuple[dict[str, Any], ...]


@functools.lru_cache(maxsize=64)
def readable(text: str) -> Tree:
    """Return a text's nodes.

    Raises:
        SpecError: the text is no YAML, no mapping, or holds something that is not a node.
    """
    content, problems = contents(text)
    if problems:
        raise SpecError(problems)
    raw = content.get("nodes") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(raw or [], list):
        raise SpecError(Problem("nodes", "is not a list of nodes", "a list"))
    return tuple(_nodes(raw or [], "nodes"))


def tree(text: str) -> tuple[Tree, bool]:
    """Return a text's nodes and whether they can be drawn."""
    try:
        return readable(text), True
    except HybridLabError:
        return (), False


def id_at(text: str, path: str) -> str | None:
    """Return the id of the node at an address, implied ones too; None where there is none."""
    nodes: Any = tree(text)[0]
    node: dict[str, Any] = {}
    for step in map(int, _STEP.findall(path)):
        if nodes is None or step >= len(nodes):
            return None
        node = nodes[step]
        nodes = node["nodes"]
    return node.get("id")


def _nodes(raw: list[Any], path: str) -> list[dict[str, Any]]:
    if not all(isinstance(node, dict) for node in raw):
        raise SpecError(Problem(path, "holds something that is not a node", "a mapping"))
    return [
        _node(node, name, f"{path}[{index}]")
        for index, (node, name) in enumerate(zip(raw, implied_ids(raw), strict=True))
    ]


def _node(node: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    inputs, inner, repeat = node.get("inputs"), node.get("nodes"), node.get("repeat")
    lora = node.get("lora")
    if inner is not None and not isinstance(inner, list):
        raise SpecError(Problem(f"{path}.nodes", "is not a list of nodes", "a list"))
    if isinstance(inputs, str):
        inputs = [inputs]
    return {
        "id": name,
        "named": "id" in node,
        "use": None if node.get("use") is None else str(node["use"]),
        "params": {key: value for key, value in node.items() if key not in NODE_KEYS},
        "inputs": [str(item) for item in inputs] if isinstance(inputs, list) and inputs else None,
        "residual": None if node.get("residual") is None else str(node["residual"]),
        "repeat": repeat if isinstance(repeat, int) and not isinstance(repeat, bool) else 1,
        "tie": node.get("tie") is True,
        "share": None if node.get("share") is None else str(node["share"]),
        "lora": lora if isinstance(lora, int) and not isinstance(lora, bool) else 0,
        "nodes": None if inner is None else _nodes(inner, f"{path}.nodes"),
    }
