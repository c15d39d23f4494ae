"""Which heads each part of an architecture leads to: a part that leads to several is shared, to one private.

Free of torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hybridlab.architecture.graph import Ref, Scope, resolve
from hybridlab.architecture.spec import Architecture

Reached = Mapping[str, frozenset[str]]
"""Heads by path of ids, without the numbers of repeats (``stage.mamba2``)."""


def heads_reached(architecture: Architecture, heads: Collection[str]) -> Reached:
    """Return for every node, groups too, which of the ``heads`` its output has a part in; nodes of none are left out.

    ``heads`` are ids of nodes at the top. A part whose weights another place uses too leads to the heads of both.

    Raises:
        SpecError: a name in the architecture does not resolve.
    """
    found: dict[str, frozenset[str]] = {}
    _mark(resolve(architecture), "", {head: frozenset([head]) for head in heads}, found)
    return found


def _mark(
    scope: Scope, prefix: str, wanted: dict[str, frozenset[str]], found: dict[str, frozenset[str]]
) -> dict[Ref, frozenset[str]]:
    """Walk a group against its running order; return what it takes from the groups around it, as its node sees it."""
    nobody: frozenset[str] = frozenset()
    around: dict[Ref, frozenset[str]] = {}

    def take(ref: Ref, heads: frozenset[str]) -> None:
        if ref.outward:
            outer = Ref(ref.outward - 1, ref.id)
            around[outer] = around.get(outer, nobody) | heads
        else:
            wanted[ref.id] = wanted.get(ref.id, nobody) | heads

    for step in reversed(scope.steps):
        heads = wanted.get(step.node.id, nobody)
        if not heads:
            continue
        path = f"{prefix}{step.node.id}"
        found[path] = found.get(path, nobody) | heads
        for ref in step.reads:
            take(ref, heads)
        if step.inner is not None:
            inner = _mark(step.inner, f"{path}.", {step.inner.output: heads}, found)
            for ref, more in inner.items():
                take(ref, more)
    return around


def shared_paths(reached: Reached) -> frozenset[str]:
    """Return the paths that lead to more than one head."""
    return frozenset(path for path, heads in reached.items() if len(heads) > 1)


def joined(reached: Reached, paths: Iterable[str]) -> frozenset[str]:
    """Return the heads that any of some places leads to: those of a weight that these places use."""
    return frozenset().union(*(reached.get(path, frozenset()) for path in paths))
