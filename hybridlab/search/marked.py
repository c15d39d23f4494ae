"""What may vary in an architecture, as a search file marks it: choices, and a design's architecture.

Choices are named by the node's path of ids and the key that varies: ``stage.repeat``, ``stage.attention.heads``;
``width`` is the architecture's own; ``plan``, ``precision`` and ``fusion`` are its training's (``search.decisions``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.spec import Architecture, Node
from hybridlab.components.base import ComponentInfo, nearest
from hybridlab.components.registry import palette
from hybridlab.errors import Problem, SpecError
from hybridlab.search.decisions import DECISIONS, USUAL, decision_choice
from hybridlab.search.space import Choice, Design, Space, Value

WIDTH = "width"
ORDER = "order"
"""What a group's nodes may vary in together: their ids with spaces between, in another order."""
_GROUP_KEYS = ("repeat", "tie")
_NODE_KEYS = ("use", "residual", "share", "lora")
MAX_VALUES = 64


@dataclass(frozen=True)
class Marked:
    """An architecture and what may vary in it."""

    architecture: Architecture
    space: Space

    @classmethod
    def read(cls, architecture: Architecture, search: Mapping[str, Any]) -> Marked:
        """Return the space that a file's ``search`` marks.

        Raises:
            SpecError: a node, a key or a component is not known, or values are no list of plain values.
        """
        problems: list[Problem] = []
        nodes = {ids: node for _, ids, node in architecture.walk()}
        choices: list[Choice] = []
        for path, marks in search.items():
            if path == WIDTH:
                choices += _choice(WIDTH, marks, None, problems)
                continue
            if path in DECISIONS:
                choices += decision_choice(path, marks, problems)
                continue
            node = nodes.get(path)
            if node is None:
                fix = nearest(path, [WIDTH, *DECISIONS, *nodes])
                problems.append(Problem(f"search.{path}", "there is no such node", "", "", fix))
            elif not isinstance(marks, dict) or not marks:
                expected = "keys with their values, such as {heads: [2, 4]}"
                problems.append(Problem(f"search.{path}", "does not say what may vary", expected))
            else:
                choices += _of_node(path, node, marks, problems)
        if problems:
            raise SpecError(problems)
        return cls(architecture, Space(tuple(choices)))

    def architecture_of(self, design: Design) -> Architecture:
        """Return a design; what the component in a slot does not know is left out."""
        changes: dict[str, dict[str, Value]] = {}
        width = self.architecture.width
        for name, value in design.items():
            if name == WIDTH:
                width = int(str(value))
            elif name not in DECISIONS:  # they are the training's
                path, _, key = name.rpartition(".")
                changes.setdefault(path, {})[key] = value
        nodes = tuple(_changed(node, node.id, changes) for node in self.architecture.nodes)
        content = self.architecture.model_dump(exclude={"nodes", "width"})
        return Architecture(**content, width=width, nodes=nodes)

    def matters(self, design: Design) -> list[bool]:
        """Return which choices change something in a design: a component's parameters only where it is used."""
        nodes = {ids: node for _, ids, node in self.architecture.walk()}
        answers = []
        for choice in self.space.choices:
            path, _, key = choice.name.rpartition(".")
            if not path or key in (*_GROUP_KEYS, *_NODE_KEYS) or nodes[path].is_group:
                answers.append(True)
                continue
            use = str(design.get(f"{path}.use") or nodes[path].use)
            answers.append(key in palette()[use].cls.Params.model_fields)
        return answers

    def own_design(self) -> Design:
        """Return the architecture itself as a design; where it has a value that is no choice, the first one."""
        nodes = {ids: node for _, ids, node in self.architecture.walk()}
        design: Design = {}
        for choice in self.space.choices:
            path, _, key = choice.name.rpartition(".")
            node = nodes.get(path)
            here: Any = USUAL.get(choice.name, self.architecture.width)
            if node is not None:
                here = node.params.get(key, getattr(node, key, None))
                if key == ORDER and node.is_group:
                    here = order_of(node)
                if here is None and node.use is not None:
                    known = palette()[node.use].cls.Params.model_fields.get(key)
                    here = known.default if known is not None else None
            design[choice.name] = here if here in choice.values else choice.values[0]
        return design


def order_of(node: Node) -> str:
    """Return the order of a group's nodes as a choice writes it."""
    return " ".join(one.id for one in node.nodes)


def _orders(name: str, node: Node, values: Any, problems: list[Problem]) -> Any:
    """Return orders of a group's nodes: those listed, or for true every one of few nodes."""
    ids = [one.id for one in node.nodes]
    if values is True and math.factorial(len(ids)) <= MAX_VALUES:
        return [" ".join(one) for one in itertools.permutations(ids)]
    for value in values if isinstance(values, list) else ():
        if not isinstance(value, str) or sorted(value.split()) != sorted(ids):
            words = "is not the group's nodes in another order"
            problems.append(
                Problem(f"search.{name}", words, "each once: " + " ".join(ids), repr(value))
            )
            return None
    return [" ".join(one.split()) for one in values] if isinstance(values, list) else values


def _of_node(
    path: str, node: Node, marks: Mapping[str, Any], problems: list[Problem]
) -> Iterator[Choice]:
    """Yield the choices of one node."""
    info = palette().get(node.use or "")
    uses = [info] if info is not None else []
    if isinstance(marks.get("use"), list):
        uses = [*uses, *_components(path, info, marks["use"], problems)]
    for key, values in marks.items():
        name = f"{path}.{key}"
        params = {k: f for use in uses for k, f in use.cls.Params.model_fields.items()}
        known = (ORDER, *_GROUP_KEYS) if node.is_group else (*_NODE_KEYS, *params)
        if key not in known:
            problems.append(
                Problem(
                    f"search.{name}",
                    "there is nothing of this name to vary",
                    "",
                    repr(key),
                    nearest(key, list(known)),
                )
            )
            continue
        if key == ORDER and node.is_group:
            values = _orders(name, node, values, problems)
            if values is None:
                continue
        field = params.get(key)
        extra = field.json_schema_extra if field is not None else None
        worth = extra.get("search") if isinstance(extra, dict) else None
        if key == "use" and values is True and info is not None:
            worth = [other.name for other in palette().values() if other.kind == info.kind]
        yield from _choice(name, values, worth, problems, "use" if key == "use" else "")


def _components(
    path: str, info: ComponentInfo | None, names: list[Any], problems: list[Problem]
) -> Iterator[ComponentInfo]:
    """Yield the components that may stand in a slot: known ones of the slot's kind."""
    fitting = [name for name, other in palette().items() if info is None or other.kind == info.kind]
    for name in names:
        if name in fitting:
            yield palette()[name]
        else:
            kind = f"a {info.kind}" if info is not None else "a component"
            problems.append(
                Problem(
                    f"search.{path}.use",
                    f"{name!r} is not {kind}",
                    "",
                    "",
                    nearest(str(name), fitting),
                )
            )


def _choice(
    name: str, values: Any, worth: Any, problems: list[Problem], group: str = ""
) -> Iterator[Choice]:
    """Yield the choice of one key: its list, or for true what is worth searching."""
    if values is True and worth:
        values = worth
    plain = isinstance(values, list) and all(
        value is None or isinstance(value, (str, bool, int, float)) for value in values
    )
    if not plain or not 1 <= len(values) <= MAX_VALUES:
        expected = f"a list of 1 to {MAX_VALUES} values" + (", or true" if worth else "")
        problems.append(Problem(f"search.{name}", "has no values to choose from", expected))
        return
    if name == WIDTH and not all(type(value) is int and 1 <= value <= 65_536 for value in values):
        problems.append(Problem("search.width", "is not a list of widths", "whole numbers from 1"))
        return
    yield Choice(name, tuple(values), group)


def _changed(node: Node, path: str, changes: Mapping[str, Mapping[str, Value]]) -> Node:
    """Return a node with its design's values, and so for those inside."""
    mine = dict(changes.get(path, {}))
    content: dict[str, Any] = {key: getattr(node, key) for key in Node.model_fields}
    inside = {one.id: _changed(one, f"{path}.{one.id}", changes) for one in node.nodes}
    turned = node.is_group and ORDER in mine
    order = str(mine.pop(ORDER)).split() if turned else list(inside)
    content["nodes"] = tuple(inside[name] for name in order)
    for key in (*_GROUP_KEYS, *_NODE_KEYS):
        if key in mine:
            content[key] = mine.pop(key)
    if not node.is_group:
        known = palette()[str(content["use"])].cls.Params.model_fields
        params = {**node.params, **mine}
        content["params"] = {
            key: value for key, value in params.items() if key in known and value is not None
        }
    return Node(**content)
