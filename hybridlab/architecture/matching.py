"""Which node of one architecture is which node of another: by id, then by likeness, across groups. Free of torch."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from hybridlab.architecture.document import implied_ids, looks_implied
from hybridlab.architecture.spec import INPUT, Architecture, Node

_encode = json.JSONEncoder(sort_keys=True, default=str, ensure_ascii=False).encode
_MOST_CELLS = 40_000
"""Siblings are aligned exactly up to this many pairs; beyond it, equal runs are taken as they come."""
_ALIKE = 0.34
"""Groups that share less than this part of their components are two different groups."""


@dataclass(eq=False)
class Item:
    """A node where it stands; ``match`` is its counterpart in the other architecture."""

    node: Node
    path: str
    """Its address in the file, such as ``nodes[1].nodes[0]``."""
    name: str
    """Its path of ids, such as ``stage.attention``."""
    index: int
    order: int
    """Its place in reading order."""
    parent: Item | None
    explicit: bool
    """Whether its id is its own, and not just what its component and place imply."""
    siblings: list[Item]
    children: list[Item] = field(default_factory=list)
    whole: str = ""
    """A digest of all that it says but its id, the nodes in it included."""
    uses: Counter[str] = field(default_factory=Counter)
    match: Item | None = None
    moved: bool = False


def match(before: Architecture, after: Architecture) -> tuple[list[Item], list[Item]]:
    """Return the nodes of both in reading order; they know their counterparts and whether they moved."""
    left: list[Item] = []
    right: list[Item] = []
    tops = (
        _items(before.nodes, "nodes", "", None, left),
        _items(after.nodes, "nodes", "", None, right),
    )
    _match_known(left, right)
    _match_scope(*tops)
    while _match_strays(left, right):
        pass
    scopes = [tops, *((x.children, x.match.children) for x in left if x.match and x.children)]
    for xs, ys in scopes:
        _match_replaced(xs, ys)
    for xs, _ in scopes:
        _mark_moved(xs)
    for item in left:
        if item.match is not None and not _same_parent(item, item.match):
            item.moved = item.match.moved = True
    return left, right


def written(value: Any) -> str:
    """Write a value so that 4, 4.0, true and "4" differ, and the order of keys does not matter."""
    return _encode(value)


def resolved(item: Item, name: str) -> Item | str:
    """Return the node that a name in ``inputs`` means at an item, or the name itself where it means none."""
    inside: Item | None = item
    while inside is not None and name != INPUT:
        for sibling in inside.siblings:
            if sibling.node.id == name:
                return sibling
        inside = inside.parent
    return name


def _items(
    nodes: Sequence[Node], path: str, name: str, parent: Item | None, into: list[Item]
) -> list[Item]:
    made: list[Item] = []
    for index, (node, explicit) in enumerate(zip(nodes, _explicit(nodes), strict=True)):
        here, named = f"{path}[{index}]", f"{name}{node.id}"
        item = Item(node, here, named, index, len(into), parent, explicit, made)
        made.append(item)
        into.append(item)
        item.children = _items(node.nodes, f"{here}.nodes", f"{named}.", item, into)
        own = [node.use, node.params, node.inputs, node.residual, node.repeat, node.tie]
        own += [node.share, node.lora]
        text = written([own, [child.whole for child in item.children]])
        item.whole = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        for child in item.children:
            item.uses.update(child.uses)
        if node.use is not None:
            item.uses[node.use] += 1
    return made


def _explicit(nodes: Sequence[Node]) -> list[bool]:
    """Return for siblings which ids are more than reading would give again by itself."""
    if not nodes:
        return []
    looks = [looks_implied(node) for node in nodes]
    short = [
        {"use": node.use} if look else {"use": node.use, "id": node.id}
        for node, look in zip(nodes, looks, strict=True)
    ]
    if implied_ids(short) != [node.id for node in nodes]:
        return [True] * len(nodes)
    return [not look for look in looks]


def _pair(x: Item, y: Item) -> None:
    """Make two nodes counterparts, and match what is in them."""
    x.match, y.match = y, x
    if x.children:
        _match_scope(x.children, y.children)


def _match_known(left: Sequence[Item], right: Sequence[Item]) -> None:
    """Match groups wherever they went: of one own id and much in common, or else quite the same, once in each."""
    keys: tuple[Callable[[Item], str | None], ...] = (
        lambda item: item.node.id if item.explicit else None,
        lambda item: item.whole,
    )
    pairs: list[tuple[Item, Item]] = []
    for key in keys:
        sides: list[dict[str, list[Item]]] = [{}, {}]
        for side, items in zip(sides, (left, right), strict=True):
            for item in _free(items):
                if item.children and (name := key(item)) is not None:
                    side.setdefault(name, []).append(item)
        for name, mine in sides[0].items():
            theirs = sides[1].get(name, [])
            if len(mine) == len(theirs) == 1 and _likeness(mine[0], theirs[0]):
                pairs.append((mine[0], theirs[0]))
                mine[0].match, theirs[0].match = theirs[0], mine[0]
    for x, y in pairs:  # all of them before what is in any of them
        _match_scope(x.children, y.children)


def _match_scope(xs: Sequence[Item], ys: Sequence[Item]) -> None:
    """Match the nodes of two matched groups: those with ids of their own by id, the others by likeness."""
    named = {y.node.id: y for y in _free(ys) if y.explicit}
    for x in _free(xs):
        y = named.get(x.node.id)
        if x.explicit and y is not None and y.match is None and _same_sort(x, y):
            _pair(x, y)
    left, right = _free(xs), _free(ys)
    while left and right and left[0].whole == right[0].whole:
        _pair(left.pop(0), right.pop(0))
    while left and right and left[-1].whole == right[-1].whole:
        _pair(left.pop(), right.pop())
    for x, y in list(_aligned(left, right)):
        _pair(x, y)


def _aligned(xs: Sequence[Item], ys: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """Yield the pairs, in the order of both, that are most alike in all."""
    if len(xs) * len(ys) > _MOST_CELLS:
        blocks = SequenceMatcher(None, [x.whole for x in xs], [y.whole for y in ys], False)
        for start, other, size in blocks.get_matching_blocks():
            yield from zip(xs[start : start + size], ys[other : other + size], strict=True)
        return
    best = [[0.0] * (len(ys) + 1) for _ in range(len(xs) + 1)]
    alike = [[_likeness(x, y) for y in ys] for x in xs]
    for i in reversed(range(len(xs))):
        for j in reversed(range(len(ys))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], alike[i][j] + best[i + 1][j + 1])
    i = j = 0
    while i < len(xs) and j < len(ys):
        if alike[i][j] and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
            yield xs[i], ys[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1


def _likeness(x: Item, y: Item) -> float:
    """Return how much speaks for two nodes being one; 0 where they cannot be."""
    if not _same_sort(x, y):
        return 0.0
    same_id = 1.0 if x.node.id == y.node.id else 0.0
    if x.whole == y.whole:
        return 8.0 + same_id
    if x.node.use != y.node.use:
        return 0.0
    if x.children:
        shared, every = (x.uses & y.uses).total(), (x.uses | y.uses).total()
        return 7.0 * shared / every + same_id if shared >= _ALIKE * every else 0.0
    a, b = ({(k, written(v)) for k, v in item.node.params.items()} for item in (x, y))
    return 4.0 + (2.0 * len(a & b) / len(a | b) if a | b else 2.0) + same_id


def _match_strays(left: Sequence[Item], right: Sequence[Item]) -> bool:
    """Match nodes that went to another group or another place; say whether there were any."""
    keys: tuple[Callable[[Item], Hashable], ...] = (
        lambda item: (item.whole, item.node.id),
        lambda item: item.whole,
        lambda item: (item.node.id, item.node.use) if item.explicit else None,
        lambda item: (
            (item.node.use, written(item.node.params), item.node.share) if item.node.use else None
        ),
        lambda item: (item.node.use, written(item.node.params)) if item.node.use else None,
    )
    for groups in (True, False):
        xs, ys = ([i for i in _free(side) if bool(i.children) is groups] for side in (left, right))
        for key in keys:
            found = False
            waiting: dict[Hashable, list[Item]] = {}
            for y in reversed(_free(ys)):
                waiting.setdefault(key(y), []).append(y)
            for x in _free(xs):
                if (name := key(x)) is not None and (there := waiting.get(name)):
                    y = there.pop()
                    if y.match is None and x.match is None:
                        _pair(x, y)
                        found = True
            if found:
                return True
    return False


def _match_replaced(xs: Sequence[Item], ys: Sequence[Item]) -> None:
    """Match a component that went with the one that came at its place: between the same neighbours."""
    waiting: dict[int, list[Item]] = {}
    place = -1
    for y in ys:
        if y.match is not None and y.match.siblings is xs:
            place = y.index
        elif y.match is None and not y.children:
            waiting.setdefault(place, []).append(y)
    place = -1
    for x in xs:
        if x.match is not None and x.match.siblings is ys:
            place = x.match.index
        elif x.match is None and not x.children and (there := waiting.get(place)):
            _pair(x, there.pop(0))


def _mark_moved(xs: Sequence[Item]) -> None:
    """Mark the fewest nodes whose moving explains the new order of a group."""
    kept = [(x, x.match) for x in xs if x.match is not None and _same_parent(x, x.match)]
    stay = set(_longest_rise([y.index for _, y in kept]))
    for place, (x, y) in enumerate(kept):
        x.moved = y.moved = place not in stay


def _longest_rise(numbers: Sequence[int]) -> Iterable[int]:
    """Return the places of a longest rising subsequence."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for place, number in enumerate(numbers):
        at = bisect_left(tails, number)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(number)
            ends.append(place)
        else:
            tails[at], ends[at] = number, place
    place = ends[-1] if ends else -1
    while place >= 0:
        yield place
        place = before[place]


def _free(items: Iterable[Item]) -> list[Item]:
    return [item for item in items if item.match is None]


def _same_sort(x: Item, y: Item) -> bool:
    return bool(x.children) == bool(y.children)


def _same_parent(x: Item, y: Item) -> bool:
    if x.parent is None or y.parent is None:
        return x.parent is y.parent
    return x.parent.match is y.parent
