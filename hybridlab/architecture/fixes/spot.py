"""Where a problem stands: the node as the text writes it, the key inside it, and the names it can see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.document import contents, implied_ids
from hybridlab.architecture.spec import INPUT
from hybridlab.errors import Problem, SpecError

Entries = Mapping[str, Mapping[str, Any]]
"""The palette as ``components.registry.catalogue`` writes it, by name."""
_PATH = re.compile(r"(nodes\[\d+\](?:\.nodes\[\d+\])*)(?:\.(.*))?", re.DOTALL)
_STEP = re.compile(r"nodes\[(\d+)\]")
_ITEM = re.compile(r"inputs\[(\d+)\]")


@dataclass(frozen=True)
class Spot:
    """A place in an architecture's plain content; ``path`` is empty for the architecture itself."""

    content: Mapping[str, Any]
    path: str
    key: str
    """The key inside the node or the architecture; empty where the whole node is meant."""
    node: Any
    siblings: list[Any]
    names: list[str]
    """Ids of the siblings, implied ones too."""
    index: int
    around: tuple[str, ...]
    """Ids of the nodes of the enclosing groups, nearest first."""
    position: int = 0
    """Which of the inputs, where the problem is about one of them."""

    @property
    def head(self) -> str:
        """What stands before the siblings' own step of an address."""
        return self.path[: self.path.rindex("nodes[")] if self.path else ""

    @property
    def id(self) -> str:
        """The node's id."""
        return self.names[self.index]

    @property
    def above(self) -> str:
        """The name that the node reads where its text does not say."""
        return self.names[self.index - 1] if self.index else INPUT

    def at(self, index: int) -> str:
        """Return the address of a sibling."""
        return f"{self.head}nodes[{index}]"

    def written_inputs(self) -> list[str]:
        """Return the names in ``inputs``; none where the node reads the one above."""
        return inputs_of(self.node)

    def reads(self) -> list[str]:
        """Return the names that the node reads."""
        return self.written_inputs() or [self.above]

    def fresh(self, base: str, also: Iterable[str] = ()) -> str:
        """Return an id that no sibling has."""
        taken = {*self.names, *also, INPUT}
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        return name


def spot_of(text: str, problem: Problem) -> Spot | None:
    """Return the place that a problem's path names; None where the text cannot be read or has no such place."""
    try:
        content, problems = contents(text)
    except SpecError:
        return None
    if problems or not isinstance(content, dict):
        return None
    match = _PATH.fullmatch(problem.path)
    if match is None:
        return Spot(content, "", problem.path, content, [], [], 0, ())
    siblings: Any = content.get("nodes")
    around: tuple[str, ...] = ()
    steps = [int(step) for step in _STEP.findall(match[1])]
    index = steps[0]
    for depth, index in enumerate(steps):
        if not isinstance(siblings, list) or index >= len(siblings):
            return None
        if depth < len(steps) - 1:
            if not isinstance(siblings[index], dict):
                return None
            around = (*implied_ids(siblings), *around)
            siblings = siblings[index].get("nodes")
    key, item = match[2] or "", _ITEM.fullmatch(match[2] or "")
    return Spot(
        content,
        match[1],
        "inputs" if item else key,
        siblings[index],
        siblings,
        implied_ids(siblings),
        index,
        around,
        int(item[1]) if item else 0,
    )


def inputs_of(node: Any) -> list[str]:
    """Return the names in a node's ``inputs``."""
    wanted = node.get("inputs") if isinstance(node, dict) else None
    if isinstance(wanted, str):
        return [wanted]
    return [str(name) for name in wanted] if isinstance(wanted, list) else []


def inner(node: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield a node and all that it holds, as (address, node, id); the id of the node itself is left empty."""
    yield path, node, ""
    children = node.get("nodes") if isinstance(node, dict) else None
    if isinstance(children, list):
        for index, (child, name) in enumerate(zip(children, implied_ids(children), strict=True)):
            here = f"{path}.nodes[{index}]"
            for address, each, own in inner(child, here):
                yield address, each, own or name


def short(value: object, most: int = 40) -> str:
    """Write a value for a button."""
    if isinstance(value, bool):
        return str(value).lower()
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
