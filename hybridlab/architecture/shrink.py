"""The same pattern at a size that trains here: narrower, fewer heads, experts and repeats; input and head left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.infer import check
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.errors import SpecError

_FIXED = {"conv", "kernel", "patch", "expand", "order", "depth"}
"""Whole numbers that are no sizes of a model."""
_SMALL = 16
"""Other whole numbers up to this are counts and stay."""


@dataclass(frozen=True)
class Sizes:
    """What a shrunk architecture has at most."""

    width: int = 64
    repeat: int = 2
    heads: int = 4
    state: int = 16
    experts: int = 4
    window: int = 64
    chunk: int = 64


def shrink(architecture: Architecture, sizes: Sizes | None = None) -> Architecture:
    """Return the same pattern with smaller sizes.

    The input, the head and the norm between the last layer and the head are left to the task, as presets do.

    Raises:
        SpecError: components do not fit together at these sizes.
    """
    sizes = sizes or Sizes()
    share = sizes.width / architecture.width
    body = _without_ends(architecture.nodes)
    smaller = architecture.model_copy(
        update={
            "name": f"{architecture.name}-mini"[:200],
            "width": sizes.width,
            "nodes": tuple(_shrunk(node, sizes, share) for node in body),
        }
    )
    if problems := [p for p in check(smaller) if p.severity == "error"]:
        raise SpecError(problems)
    return smaller


def _without_ends(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Leave out inputs and heads, and a norm that only a head without one of its own reads."""
    kinds = [_kind(node) for node in nodes]
    dropped = {
        n.id for n, kind in zip(nodes, kinds, strict=True) if kind in (Kind.INPUT, Kind.HEAD)
    }
    last = len(nodes) - 1
    bare_head = kinds[last] is Kind.HEAD and nodes[last].params.get("norm") is False
    if bare_head and last > 1 and kinds[last - 1] is Kind.NORM and nodes[last].inputs is None:
        dropped.add(nodes[last - 1].id)
    named = {name for name in dropped if any(_reads_inside(node, name) for node in nodes)}
    kept = tuple(
        Node(id=node.id, use="skip", inputs=(INPUT,))
        if node.id in named
        else _reading(node, dropped - named)
        for node in nodes
        if node.id not in dropped - named
    )
    return kept or nodes


def _reads_inside(node: Node, name: str) -> bool:
    """Say whether something in a group reads a node around it, which ``input`` would not mean there."""
    return name not in {inner.id for inner in node.nodes} and any(
        name in (inner.inputs or ()) or _reads_inside(inner, name) for inner in node.nodes
    )


def _reading(node: Node, dropped: set[str]) -> Node:
    if node.inputs is None or not dropped & set(node.inputs):
        return node
    inputs = tuple(INPUT if name in dropped else name for name in node.inputs)
    return node.model_copy(update={"inputs": inputs})


def _kind(node: Node) -> Kind | None:
    info = palette().get(node.use or "")
    return info.kind if info is not None else None


def _shrunk(node: Node, sizes: Sizes, share: float) -> Node:
    if node.is_group:
        inner = tuple(_shrunk(child, sizes, share) for child in node.nodes)
        return node.model_copy(update={"nodes": inner, "repeat": min(node.repeat, sizes.repeat)})
    info = palette().get(node.use or "")
    if info is None:
        return node
    limits = info.cls.Params.model_json_schema().get("properties", {})
    smaller: dict[str, Any] = {"params": _params(node.params, limits, sizes, share)}
    if node.lora is not None:
        smaller["lora"] = max(1, min(node.lora, round(node.lora * share)))
    return node.model_copy(update=smaller)


def _params(
    given: Mapping[str, Any], limits: Mapping[str, Any], sizes: Sizes, share: float
) -> dict[str, Any]:
    """Shrink the sizes among a component's parameters; ratios, flags and what is left to defaults stay."""
    found = dict(given)
    for key, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or key in _FIXED:
            continue
        if key in ("heads", "state", "experts", "window", "chunk"):
            found[key] = min(value, getattr(sizes, key))
        elif value > _SMALL and key not in (
            "kv_heads",
            "key_heads",
            "groups",
            "top_k",
            "max_length",
        ):
            found[key] = max(_lowest(limits.get(key, {})), 8 * max(1, round(value * share / 8)))
    fewer = found.get("heads", 1) / given["heads"] if isinstance(given.get("heads"), int) else 1
    for key in ("kv_heads", "key_heads", "groups", "norm_groups"):
        if isinstance(value := given.get(key), int) and "heads" in found:
            found[key] = _divisor(found["heads"], max(1, round(value * fewer)))
    if "head_dim" in found and fewer < 1:
        found["head_dim"] = max(8, 8 * round(given["head_dim"] * share / fewer / 8))
    if "top_k" in found:
        found["top_k"] = min(found["top_k"], found.get("experts", found["top_k"]))
    return found


def _lowest(limits: Mapping[str, Any]) -> int:
    choices = [limits, *limits.get("anyOf", [])]
    return max([int(one.get("minimum", 1)) for one in choices], default=1)


def _divisor(total: int, wanted: int) -> int:
    """Return the largest divisor of ``total`` that is at most ``wanted``."""
    return max(n for n in range(1, max(1, wanted) + 1) if total % n == 0)
