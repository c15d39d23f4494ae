"""What differs between two architectures, node by node: as a record and in words. Free of torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hybridlab.architecture.matching import Item, match, resolved, written
from hybridlab.architecture.spec import ARCHITECTURE_KEYS, Architecture

What = Literal["added", "removed", "moved", "changed"]
SIGNS: dict[What, str] = {"added": "+", "removed": "-", "moved": ">", "changed": "~"}
_DEFAULT = "default"


@dataclass(frozen=True)
class FieldChange:
    """A field or parameter before and after; None stands for its default."""

    key: str
    before: Any
    after: Any

    def words(self) -> str:
        """Return the change as people write it, such as ``heads 4 → 8``."""
        key = "component" if self.key == "use" else self.key
        return f"{key} {_said(self.before)} → {_said(self.after)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {"key": self.key, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class NodeChange:
    """One node that differs; a node that moved and changed is ``changed`` with ``moved`` set."""

    what: What
    name: str
    """Its path of ids, such as ``stage.attention``: after the change, or before where it was removed."""
    use: str
    """Its component after the change, or ``group``."""
    before: str | None
    """Its address in the first file, such as ``nodes[1].nodes[0]``; None where it was added."""
    after: str | None
    """Its address in the second file; None where it was removed."""
    fields: tuple[FieldChange, ...] = ()
    moved: bool = False
    old_name: str = ""
    """Its path of ids before, where it moved."""

    @property
    def replaced(self) -> FieldChange | None:
        """The component before and after, where another one took its place."""
        return next((item for item in self.fields if item.key == "use"), None)

    def words(self) -> str:
        """Return the change without its sign, such as ``stage.attention: heads 4 → 8``."""
        said = [item.words() for item in self.fields]
        if self.moved:
            elsewhere = self.old_name.rpartition(".")[0] != self.name.rpartition(".")[0]
            said.insert(0, f"moved from {self.old_name}" if elsewhere else "moved")
        if not said and self.use != self.name.rpartition(".")[2]:
            said = [self.use]
        return f"{self.name}: {', '.join(said)}" if said else self.name

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            "what": self.what,
            "name": self.name,
            "use": self.use,
            "before": self.before,
            "after": self.after,
            "moved": self.moved,
            "changes": [item.as_dict() for item in self.fields],
        }


@dataclass(frozen=True)
class Difference:
    """What turns one architecture into another; ``pairs`` has the addresses of all nodes that both have."""

    before: str
    after: str
    fields: tuple[FieldChange, ...]
    nodes: tuple[NodeChange, ...]
    pairs: tuple[tuple[str, str], ...]

    @property
    def empty(self) -> bool:
        """Whether both are the same."""
        return not self.fields and not self.nodes

    def summary(self, most: int = 3) -> str:
        """Return the change in a few words, such as ``+1 node, heads 4 → 8``."""
        if self.empty:
            return "no change"
        counts = Counter(
            (change.what, "group" if change.use == "group" else "node") for change in self.nodes
        )
        said = []
        for what, sign in (("added", "+"), ("removed", "−")):
            for sort in ("node", "group"):
                if count := counts[what, sort]:  # type: ignore[index]
                    said.append(f"{sign}{count} {sort}{'s' if count > 1 else ''}")
        for change in self.nodes:
            if new := change.replaced:
                said.append(f"{_said(new.before)} → {_said(new.after)}")
            else:
                said += [item.words() for item in change.fields]
        moved = sum(change.moved for change in self.nodes)
        said += [f"{moved} moved"] if moved else []
        said += [item.words() for item in self.fields]
        more = len(said) - most
        return ", ".join(said[:most]) + (f" and {more} more" if more > 0 else "")

    def text(self) -> str:
        """Return one line a change; the first sign says which: + added, - removed, > moved, ~ changed."""
        lines = [f"~ {item.words()}" for item in self.fields]
        lines += [f"{SIGNS[change.what]} {change.words()}" for change in self.nodes]
        return "".join(f"{line}\n" for line in lines) or "no change\n"

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pairs, ready for JSON."""
        return {
            "equal": self.empty,
            "before": self.before,
            "after": self.after,
            "summary": self.summary(),
            "fields": [item.as_dict() for item in self.fields],
            "nodes": [change.as_dict() for change in self.nodes],
        }


def compare(before: Architecture, after: Architecture) -> Difference:
    """Return what differs; it is empty exactly where both say the same.

    A component that took another's place counts as that node, changed. A name in ``inputs`` that only follows a
    renamed node is no change of its own, and neither is an id that follows from the component and its place.
    """
    left, right = match(before, after)
    fields = tuple(
        FieldChange(key, getattr(before, key), getattr(after, key))
        for key in ARCHITECTURE_KEYS
        if key != "nodes" and getattr(before, key) != getattr(after, key)
    )
    placed: list[tuple[tuple[int, int], NodeChange]] = []
    last = -1
    for x in left:
        if x.match is None:
            use = x.node.use or "group"
            placed.append(((last, x.order + 1), NodeChange("removed", x.name, use, x.path, None)))
        else:
            last = x.match.order
    for y in right:
        if (change := _change(y)) is not None:
            placed.append(((y.order, 0), change))
    nodes = tuple(change for _, change in sorted(placed, key=lambda item: item[0]))
    pairs = tuple((x.path, x.match.path) for x in left if x.match is not None)
    return Difference(before.name, after.name, fields, nodes, pairs)


def text_difference(
    before: str, after: str, before_name: str = "before", after_name: str = "after"
) -> str:
    """Return the unified difference of two YAML texts; empty where they are the same."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        before_name,
        after_name,
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _change(y: Item) -> NodeChange | None:
    use = y.node.use or "group"
    if y.match is None:
        return NodeChange("added", y.name, use, None, y.path)
    x = y.match
    fields = tuple(_field_changes(x, y))
    if not fields and not y.moved:
        return None
    what: What = "changed" if fields else "moved"
    return NodeChange(what, y.name, use, x.path, y.path, fields, y.moved, x.name if y.moved else "")


def _field_changes(x: Item, y: Item) -> Iterator[FieldChange]:
    old, new = x.node, y.node
    if old.id != new.id and (x.explicit or y.explicit):
        yield FieldChange("id", old.id, new.id)
    if old.use != new.use:
        yield FieldChange("use", old.use, new.use)
    for key in dict.fromkeys([*old.params, *new.params]):
        a, b = (written(p[key]) if key in p else None for p in (old.params, new.params))
        if a != b:
            yield FieldChange(key, old.params.get(key), new.params.get(key))
    if old.inputs != new.inputs and not _same_reads(x, y):
        yield FieldChange("inputs", _list(old.inputs), _list(new.inputs))
    if old.residual != new.residual:
        a, b = (None if r is None else str(r) for r in (old.residual, new.residual))
        yield FieldChange("residual", a, b)
    if old.repeat != new.repeat:
        yield FieldChange("repeat", old.repeat, new.repeat)
    if old.tie != new.tie:
        yield FieldChange("tie", old.tie, new.tie)
    for key in ("share", "lora"):
        if getattr(old, key) != getattr(new, key):
            yield FieldChange(key, getattr(old, key), getattr(new, key))


def _same_reads(x: Item, y: Item) -> bool:
    """Say whether both read the same nodes, whatever these are called now."""
    if x.node.inputs is None or y.node.inputs is None:
        return False
    wanted = [resolved(x, name) for name in x.node.inputs]
    given = [resolved(y, name) for name in y.node.inputs]
    return [w.match if isinstance(w, Item) else w for w in wanted] == given


def _list(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _said(value: Any) -> str:
    if value is None:
        return _DEFAULT
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value}"
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"
