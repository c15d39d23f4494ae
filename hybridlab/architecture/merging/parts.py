"""What two versions of an architecture and their common base have in common, node by node. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from hybridlab.architecture.matching import Item, match, resolved, written
from hybridlab.architecture.spec import INPUT, Architecture

Side = Literal["mine", "theirs"]
SIDES: tuple[Side, Side] = ("mine", "theirs")
OTHER: dict[Side, Side] = {"mine": "theirs", "theirs": "mine"}
Reads = tuple["Part | str", ...]
"""What a node reads: nodes, and names that mean none (such as the group's input)."""


@dataclass(eq=False)
class Part:
    """A node as it was and as it is on each side (None: it is not there), and what becomes of it."""

    base: Item | None = None
    mine: Item | None = None
    theirs: Item | None = None
    gone: bool = False
    parent: Part | None = None
    children: list[Part] = field(default_factory=list)
    id: str = ""
    named: bool = False
    """Whether its id has to be written, and does not just follow from its place."""
    values: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def on(self, side: Side) -> Item | None:
        """Return the node on a side."""
        return self.mine if side == "mine" else self.theirs

    @property
    def any(self) -> Item:
        """The node as some version has it: mine first."""
        item = self.mine or self.theirs or self.base
        assert item is not None
        return item

    @property
    def key(self) -> str:
        """A name for choices that stays the same while they are made."""
        if self.base is not None:
            return self.base.path
        return f"mine {self.mine.path}" if self.mine else f"theirs {self.any.path}"

    @property
    def is_group(self) -> bool:
        """Whether it holds other nodes."""
        return self.any.node.is_group


class Parts:
    """All nodes of three versions, each once however many versions have it; mine first, in reading order."""

    def __init__(self, base: Architecture, mine: Architecture, theirs: Architecture) -> None:
        """Find out which node of one version is which of the others."""
        before, own = match(base, mine)
        again, other = match(base, theirs)
        by_path = {item.path: Part(base=item) for item in before}
        self._before = list(by_path.values())
        self._of = {id(item): by_path[item.path] for item in (*before, *again)}
        for item in own:
            part = by_path[item.match.path] if item.match else Part()
            part.mine = item
            self._of[id(item)] = part
        added = [self._of[id(item)] for item in own if item.match is None]
        for item in sorted(other, key=lambda item: item.match is None):  # the known ones first
            part = by_path[item.match.path] if item.match else self._twin(item, added) or Part()
            part.theirs = item
            self._of[id(item)] = part
        self.items: dict[Side, list[Item]] = {"mine": own, "theirs": other}
        self.all = list(dict.fromkeys(self._of[id(item)] for item in (*own, *other, *before)))

    def of(self, item: Item) -> Part:
        """Return the part that an item is a version of."""
        return self._of[id(item)]

    def present(self) -> list[Part]:
        """Return the nodes that stay."""
        return [part for part in self.all if not part.gone]

    def around(self, part: Part) -> Part | None:
        """Return the group that a node stood in before."""
        return self.parent(part.base) if part.base else None

    def parent(self, item: Item) -> Part | None:
        """Return the group an item stands in; None at the top."""
        return self.of(item.parent) if item.parent else None

    def reads(self, item: Item) -> Reads | None:
        """Return what an item names in ``inputs``, whatever that is called; None for the node above."""
        if item.node.inputs is None:
            return None
        found = (resolved(item, name) for name in item.node.inputs)
        return tuple(self.of(one) if isinstance(one, Item) else one for one in found)

    def read_by(self, part: Part) -> Reads:
        """Return what a node reads, also where it just reads the node above."""
        item = part.base or part.any
        named = self.reads(item)
        if named is not None:
            return named
        return (self.of(item.siblings[item.index - 1]),) if item.index else (INPUT,)

    def values(self, item: Item) -> dict[str, Any]:
        """Return all that a node says but its component with its parameters."""
        node = item.node
        return {
            "id": node.id if item.explicit else None,
            "inputs": self.reads(item),
            "residual": None if node.residual is None else str(node.residual),
            "repeat": node.repeat,
            "tie": node.tie,
            "share": node.share,
            "lora": node.lora,
        }

    def order(self, group: Part | None, side: Side) -> list[Part]:
        """Return a group's nodes as a side has them; empty where that side has no such group."""
        if group is None:
            return [self.of(item) for item in self.items[side] if item.parent is None]
        item = group.on(side)
        return [self.of(child) for child in item.children] if item else []

    def in_base_order(self) -> list[Part]:
        """Return the nodes that the base had, as they stood there."""
        return list(self._before)

    def base_order(self, group: Part | None) -> list[Part]:
        """Return a group's nodes as the base had them."""
        if group is None:
            return [part for part in self._before if part.base and part.base.parent is None]
        return [self.of(child) for child in group.base.children] if group.base else []

    def _twin(self, item: Item, added: list[Part]) -> Part | None:
        """Return what the other side added just so, at the same place: both mean one node."""
        for part in added:
            twin = part.mine
            if twin is None or part.theirs or bool(twin.children) != bool(item.children):
                continue
            if self.parent(twin) is not self.parent(item):
                continue
            if self._share(twin, item) or (
                twin.whole == item.whole
                and _own_id(twin) == _own_id(item)
                and list(self._gap(twin)) == list(self._gap(item))
            ):
                return part
        return None

    def _share(self, one: Item, other: Item) -> bool:
        """Say whether two new groups were put around the same node."""
        held = [child.match.path for child in one.children if child.match]
        return any(child.match.path in held for child in other.children if child.match)

    def _gap(self, item: Item) -> Iterator[Part | None]:
        """Yield the nodes of the base between which a new node stands."""
        for around in (item.siblings[: item.index][::-1], item.siblings[item.index + 1 :]):
            yield next((self.of(one) for one in around if one.match), None)


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same; nodes by which they are, numbers by how they are written."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return list(one) == list(other)
    if isinstance(one, tuple) or isinstance(other, tuple):
        return False
    return written(one) == written(other)


def _own_id(item: Item) -> str | None:
    return item.node.id if item.explicit else None
