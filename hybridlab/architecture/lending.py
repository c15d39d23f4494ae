"""Whole nodes that use another node's weights: which place borrows from which. Free of torch.

A name is found as in ``inputs``, here or around, and leads inwards from there: ``first.block``. What a group lends, its
nodes lend to the nodes of the same ids. A group that is tied but has pairs of its own for each use is written out, and
its later repeats borrow from the first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybridlab.architecture.graph import Scope, Step
from hybridlab.architecture.spec import Node
from hybridlab.errors import Problem

_Around = Sequence[tuple[Scope, str]]
"""Scopes with the prefixes of paths in them, innermost first."""


@dataclass(frozen=True)
class _Place:
    """A node at a place, repeats written out."""

    step: Step
    path: str


def find_lenders(scope: Scope, problems: list[Problem]) -> dict[str, str]:
    """Return by the path of each component (and each group with a norm) that borrows the path of its lender."""
    found: dict[str, str] = {}
    if not _wanted(scope):
        return found
    _search([(scope, "")], found, problems)
    return {path: end for path in found if (end := _end(path, found)) is not None}


def _wanted(scope: Scope) -> bool:
    """Say whether anything shares or has pairs of its own; most architectures have neither."""
    return any(
        step.node.share is not None
        or step.node.lora is not None
        or (step.inner is not None and _wanted(step.inner))
        for step in scope.steps
    )


def _search(around: _Around, found: dict[str, str], problems: list[Problem]) -> None:
    scope, prefix = around[0]
    for step in scope.steps:
        place = _Place(step, f"{prefix}{step.node.id}")
        if step.node.share is not None:
            lender = _lender(step, step.node.share, around)
            if isinstance(lender, _Place):
                lender = _difference(place, lender) or lender
            if isinstance(lender, Problem):
                problems.append(lender)
            else:
                pairs = dict(_pairs(place, lender))
                found |= {path: one for path, one in pairs.items() if path not in found}
                if any(_end(path, found) is None for path in pairs):
                    problems.append(_circle(step))
        if step.inner is None:
            continue
        prefixes = repeats(step.node, place.path)
        for inner in prefixes:
            _search([(step.inner, inner), *around], found, problems)
        if step.node.tie:
            for inner in prefixes[1:]:
                for path, one in _inner_pairs(step.inner, inner, step.inner, prefixes[0]):
                    found.setdefault(path, one)


def repeats(node: Node, path: str) -> list[str]:
    """Return the prefix of the paths in each repeat of a group that is built apart."""
    if node.repeat == 1 or node.runs_again:
        return [f"{path}."]
    return [f"{path}.{index}." for index in range(node.repeat)]


def _lender(step: Step, share: str, around: _Around) -> _Place | Problem:
    """Return the place that a name leads to."""
    first, *inward = share.split(".")
    known: list[str] = []
    for scope, prefix in around:
        ids = {one.node.id: one for one in scope.steps}
        known += ids
        if first in ids:
            place = _Place(ids[first], f"{prefix}{first}")
            break
    else:
        return _unknown(step, first, known)
    for name in inward:
        group = place.step
        if group.inner is None:
            return _unknown(step, name, [], inside=group.node.id)
        prefixes = repeats(group.node, place.path)
        if len(prefixes) > 1 and not group.node.tie:
            return Problem(
                f"{step.file_path}.share",
                f"{group.node.id!r} has other weights in each of its {group.node.repeat} repeats",
                "a node that is there once",
                repr(share),
                f"name a node outside of {group.node.id!r}, or tie it",
            )
        ids = {one.node.id: one for one in group.inner.steps}
        if name not in ids:
            return _unknown(step, name, list(ids), inside=group.node.id)
        place = _Place(ids[name], f"{prefixes[0]}{name}")
    return place


def _unknown(step: Step, name: str, known: Sequence[str], *, inside: str = "") -> Problem:
    close = difflib.get_close_matches(name, known, n=1)
    listed = "known: " + ", ".join(sorted(set(known))[:20]) if known else ""
    return Problem(
        f"{step.file_path}.share",
        f"there is no node of this name in {inside!r} to share weights with"
        if inside
        else "there is no node of this name to share weights with",
        "the id of a node in this group or around it, and of nodes in that, such as first.block",
        repr(name),
        f"did you mean {close[0]!r}?" if close else listed,
    )


def _circle(step: Step) -> Problem:
    return Problem(
        f"{step.file_path}.share",
        "nodes share weights in a circle, so none has them",
        "a node with weights of its own",
        repr(step.node.share),
        "remove share from one of them",
    )


def _difference(place: _Place, lender: _Place) -> Problem | None:
    """Return what keeps two nodes from having the same weights, parameters aside."""
    own, other = place.step.node, lender.step.node
    words = _unlike(own, other, inside=False)
    if words is None:
        return None
    return Problem(
        place.step.file_path,
        f"cannot share the weights of {own.share!r}, whose {words[0]} another",
        words[1],
        words[2],
        "write the node as it stands there",
    )


def _unlike(own: Node, other: Node, *, inside: bool) -> tuple[str, str, str] | None:
    """Return in what two nodes differ, what the lender has and what the borrower has."""
    keys = ("id", "inputs", "use", "residual", "repeat", "tie")
    for key in keys if inside else keys[2:]:
        wanted, given = getattr(other, key), getattr(own, key)
        if wanted != given:
            return f"{key} is", str(wanted), str(given)
    names, given_names = ([node.id for node in one.nodes] for one in (other, own))
    if names != given_names:
        return "list of nodes is", ", ".join(names) or "none", ", ".join(given_names) or "none"
    pairs = zip(own.nodes, other.nodes, strict=True)
    found = (_unlike(mine, theirs, inside=True) for mine, theirs in pairs)
    return next((one for one in found if one is not None), None)


def _pairs(place: _Place, lender: _Place) -> Iterator[tuple[str, str]]:
    """Yield the components in one place with those in another of the same shape."""
    yield place.path, lender.path
    if place.step.inner is None or lender.step.inner is None:
        return
    own, other = (repeats(one.step.node, one.path) for one in (place, lender))
    for index, prefix in enumerate(own):
        lent = other[min(index, len(other) - 1)]
        yield from _inner_pairs(place.step.inner, prefix, lender.step.inner, lent)


def _inner_pairs(own: Scope, prefix: str, other: Scope, lent: str) -> Iterator[tuple[str, str]]:
    theirs = {step.node.id: step for step in other.steps}
    for step in own.steps:
        name = step.node.id
        yield from _pairs(_Place(step, f"{prefix}{name}"), _Place(theirs[name], f"{lent}{name}"))


def _end(path: str, found: Mapping[str, str]) -> str | None:
    """Return who has the weights that a place uses in the end; None where they lend to each other in a circle."""
    seen = {path}
    while path in found:
        path = found[path]
        if path in seen:
            return None
        seen.add(path)
    return path
