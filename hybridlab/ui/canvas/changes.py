"""What the canvas may change, and how each change is made on the text; nothing here knows of Streamlit."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hybridlab.architecture import edit
from hybridlab.architecture.document import MAX_BYTES, implied_ids, plain, read_yaml
from hybridlab.architecture.edit import carry, insert, siblings_at
from hybridlab.architecture.spec import INPUT, MAX_NODES
from hybridlab.errors import HybridLabError, Problem, SpecError

Path = Annotated[
    str, Field(max_length=400, pattern=r"^nodes\[\d{1,5}\](\.nodes\[\d{1,5}\]){0,20}$")
]
Key = Annotated[str, Field(min_length=1, max_length=100)]
NodeDict = Annotated[dict[str, Any], Field(max_length=100)]
Number = Annotated[int, Field(ge=1, le=MAX_NODES)]


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Insert(_Change):
    """A new node that stands at an address afterwards; ``like`` says of which other one it is a copy, comments too."""

    do: Literal["insert"]
    at: Path
    node: NodeDict
    like: Path | None = None

    def make(self, text: str) -> str:
        """Return the text with the node."""
        if self.like is not None:
            return carry(text, self.like, self.at, self.node)
        return insert(text, self.at, self.node)


class Paste(_Change):
    """Nodes as YAML text, of which the first stands at an address afterwards."""

    do: Literal["paste"]
    at: Path
    yaml: Annotated[str, Field(max_length=100_000)]

    def make(self, text: str) -> str:
        """Return the text with the nodes; ids that are taken are numbered on."""
        head, index = _split(self.at)
        siblings = siblings_at(text, head)
        first, *others = _renamed(_nodes(self.yaml), siblings)
        text = insert(text, self.at, first)
        return edit.add_all(text, others, f"{head}nodes[{min(index, len(siblings))}]")


class Remove(_Change):
    """A node goes; who read it reads what it read."""

    do: Literal["remove"]
    path: Path

    def make(self, text: str) -> str:
        """Return the text without the node."""
        return edit.remove(text, self.path)


class Replace(_Change):
    """Another component in a node's place."""

    do: Literal["replace"]
    path: Path
    use: Key
    keep: Annotated[list[Key], Field(max_length=100)]
    give: NodeDict

    def make(self, text: str) -> str:
        """Return the text with the other component; parameters to keep stay, those to give are set."""
        text = edit.replace(text, self.path, self.use, self.keep)
        for key, value in self.give.items():
            text = edit.set_parameter(text, self.path, key, value)
        return text


class Set(_Change):
    """A parameter or field of a node; null removes it."""

    do: Literal["set"]
    path: Path
    key: Key
    value: Any

    def make(self, text: str) -> str:
        """Return the text with the value."""
        if self.key in ("nodes", "use") and self.value is not None:
            raise SpecError(Problem(self.path, f"{self.key!r} is not set like a parameter"))
        return edit.set_parameter(text, self.path, self.key, self.value)


class SetField(_Change):
    """A field of the architecture itself, such as its width; null removes it."""

    do: Literal["field"]
    key: Key
    value: str | int | float | bool | None

    def make(self, text: str) -> str:
        """Return the text with the value."""
        if self.key == "nodes":
            raise SpecError(Problem(self.key, "the nodes are not set like a field"))
        return edit.set_field(text, self.key, self.value)


class Rename(_Change):
    """Another id; who reads the node follows."""

    do: Literal["rename"]
    path: Path
    id: Key

    def make(self, text: str) -> str:
        """Return the text with the new id."""
        return edit.rename(text, self.path, self.id)


class Wrap(_Change):
    """Nodes in a row become a group."""

    do: Literal["wrap"]
    path: Path
    count: Number
    repeat: Number

    def make(self, text: str) -> str:
        """Return the text with the group."""
        return edit.wrap(text, self.path, repeat=self.repeat, count=self.count)


class Unwrap(_Change):
    """A group's nodes take its place."""

    do: Literal["unwrap"]
    path: Path

    def make(self, text: str) -> str:
        """Return the text without the group."""
        return edit.unwrap(text, self.path)


class Move(_Change):
    """A node moves among its siblings."""

    do: Literal["move"]
    path: Path
    by: Annotated[int, Field(ge=-MAX_NODES, le=MAX_NODES)]

    def make(self, text: str) -> str:
        """Return the text with the node at its new place."""
        return edit.move(text, self.path, self.by)


class Duplicate(_Change):
    """A copy of a node behind it."""

    do: Literal["duplicate"]
    path: Path

    def make(self, text: str) -> str:
        """Return the text with the copy."""
        return edit.duplicate(text, self.path)


TextChange = (
    Insert | Paste | Remove | Replace | Set | SetField | Rename | Wrap | Unwrap | Move | Duplicate
)


def make(text: str, changes: list[TextChange]) -> str:
    """Make changes one after the other; those that were made on this text a moment ago are remembered.

    Raises:
        SpecError: one of them cannot be made, or the result is too large to be read again.
    """
    key = (text, json.dumps([change.model_dump(mode="json") for change in changes]))
    with _guard:
        if key in _made:
            return _made[key]
    text = _make(text, changes)
    with _guard:
        _made[key] = text
        while len(_made) > _MOST_MADE:
            _made.popitem(last=False)
    return text


_guard = threading.Lock()
_made: OrderedDict[tuple[str, str], str] = OrderedDict()
_MOST_MADE = 64


def _make(text: str, changes: list[TextChange]) -> str:
    for change in changes:
        try:
            text = change.make(text)
        except HybridLabError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
            raise SpecError(
                Problem("", "this edit does not fit the text", "nodes where the edit has them")
            ) from None
    if len(text) > MAX_BYTES:
        raise SpecError(Problem("", "the design would be too large", f"{MAX_BYTES // 1024} KiB"))
    return text


def _split(path: str) -> tuple[str, int]:
    """Return what stands before the last step of an address, and that step's number."""
    head, _, last = path.rpartition("nodes[")
    return head, int(last.removesuffix("]"))


def _nodes(yaml: str) -> list[dict[str, Any]]:
    """Return the nodes that pasted text describes: a list of them, one, or a whole architecture's."""
    content, problems = plain(read_yaml(yaml))
    if problems:
        raise SpecError(problems)
    if isinstance(content, dict) and "use" not in content and "nodes" in content:
        content = (
            [content] if "width" not in content and "name" not in content else content["nodes"]
        )
    nodes = [content] if isinstance(content, dict) else content
    good = isinstance(nodes, list) and all(
        isinstance(node, dict) and ("use" in node or "nodes" in node) for node in nodes
    )
    if not good or not nodes:
        raise SpecError(
            Problem(
                "",
                "what was pasted is not a list of nodes",
                "YAML such as - {use: attention, heads: 4}",
                "other text",
            )
        )
    return list(nodes)


def _renamed(nodes: list[dict[str, Any]], siblings: list[Any]) -> list[dict[str, Any]]:
    """Number ids on that are taken where the nodes go, and let the pasted nodes that read them follow."""
    taken = {*implied_ids(siblings), INPUT}
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(old := node.get("id"), str):
            new, number = old, 2
            while new in taken:
                new, number = f"{old}_{number}", number + 1
            taken.add(new)
            names[old] = new
    result = []
    for node in nodes:
        node = dict(node)
        if isinstance(node.get("id"), str):
            node["id"] = names[node["id"]]
        wanted = node.get("inputs")
        if isinstance(wanted, list):
            node["inputs"] = [names.get(str(name), name) for name in wanted]
        elif isinstance(wanted, str):
            node["inputs"] = names.get(wanted, wanted)
        result.append(node)
    return result
