"""What is marked in a design: for every node what may vary, and among which values; the canvas and the pages share it.

Marks are the session's, by the design's history and the node's path of ids; nothing here draws.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.matching import match
from hybridlab.architecture.spec import Architecture, Node
from hybridlab.search.decisions import FUSION, FUSIONS, PLAN, PRECISION, PRECISIONS
from hybridlab.ui import predictions, state
from hybridlab.ui.schema import Field, fields, shown

COMPONENT, REPEAT, ORDER = "use", "repeat", "order"
_LABELS = {COMPONENT: "Component", REPEAT: "Repeats", ORDER: "Order"}
_KINDS = ("integer", "number", "boolean", "choice")


def prefix_of(history: str) -> str:
    """Return the name under which a design's marks are kept."""
    return f"search.marks.{history}"


def keys_of(node: Node) -> dict[str, Field | None]:
    """Return what may vary in a node: a group's repeat and order; else the component, and its parameters."""
    if node.is_group:
        return {REPEAT: None, **({ORDER: None} if len(node.nodes) > 1 else {})}
    entry = predictions.component(str(node.use))
    if entry is None:
        return {}
    known: dict[str, Field | None] = {COMPONENT: None}
    known |= {one.name: one for one in fields(entry["params_schema"]) if one.kind in _KINDS}
    return known


def follow(architecture: Architecture, history: str) -> None:
    """Take marks along to nodes that have another path of ids than when the design was looked at last."""
    prefix = prefix_of(history)
    before = state.keep(f"{prefix}:seen", architecture)
    if before is architecture:
        return
    state.put(f"{prefix}:seen", architecture)
    if [ids for _, ids, _ in before.walk()] == [ids for _, ids, _ in architecture.walk()]:
        return
    come: dict[str, object] = {}
    for item in match(before, architecture)[0]:
        if item.match is None or item.match.name == item.name:
            continue
        for end in ("", *(f".{key}" for key in keys_of(item.node))):
            if (kept := state.forget(f"{prefix}.{item.name}{end}")) is not None:
                come[f"{prefix}.{item.match.name}{end}"] = kept
    for name, kept in come.items():
        state.put(name, kept)


def label_of(key: str, keys: Mapping[str, Field | None]) -> str:
    """Return what a key is called."""
    field = keys[key]
    return field.label if field is not None else _LABELS[key]


def taken(history: str, ids: str, node: Node) -> list[str]:
    """Return the keys of a node that are marked."""
    empty: list[str] = []
    keys = keys_of(node)
    return [key for key in state.keep(f"{prefix_of(history)}.{ids}", empty) if key in keys]


def search_of(architecture: Architecture, history: str) -> dict[str, Any]:
    """Return a search file's ``search``: every mark of a design with its values; empty where nothing is marked."""
    follow(architecture, history)
    prefix = prefix_of(history)
    found: dict[str, Any] = {}
    if widths := values_of(str(state.keep(f"{prefix}.width", "")), None):
        found["width"] = widths
    if plans := values_of(str(state.keep(f"{prefix}.plan", "")), None):
        found[PLAN] = plans
    nothing: list[str] = []
    for name, known in ((PRECISION, PRECISIONS), (FUSION, FUSIONS)):
        if some := [one for one in state.keep(f"{prefix}.{name}", nothing) if one in known]:
            found[name] = some
    for _, ids, node in architecture.walk():
        keys = keys_of(node)
        mine: dict[str, list[Any]] = {}
        for key in taken(history, ids, node):
            name = f"{prefix}.{ids}.{key}"
            if key == COMPONENT:
                own = predictions.component(str(node.use)) or {}
                kinds = {one["name"]: one["kind"] for one in predictions.components()}
                chosen = state.keep(name, own_component(node))
                mine[key] = [one for one in chosen if kinds.get(one) == own.get("kind")]
            else:
                text = state.keep(name, text_of(node, key, keys[key]))
                mine[key] = values_of(str(text), keys[key])
        if mine := {key: values for key, values in mine.items() if values}:
            found[ids] = mine
    return found


def in_words(architecture: Architecture, history: str) -> dict[str, str]:
    """Return what may vary in each node that is marked, by its path of ids."""
    follow(architecture, history)
    found = {}
    for _, ids, node in architecture.walk():
        if marked := taken(history, ids, node):
            keys = keys_of(node)
            found[ids] = ", ".join(label_of(key, keys) for key in marked)
    return found


def switch(architecture: Architecture, history: str, wanted: Mapping[str, bool]) -> None:
    """Mark nodes, or take their marks off, by their paths of ids.

    A node that is marked so varies in what its component calls worth searching; without any, in its component.
    """
    follow(architecture, history)
    for _, ids, node in architecture.walk():
        if ids not in wanted or bool(taken(history, ids, node)) == wanted[ids]:
            continue
        name = f"{prefix_of(history)}.{ids}"
        if not wanted[ids]:
            state.put(name, [])
        elif node.is_group:
            state.put(name, [REPEAT])
        elif worth := [key for key in keys_of(node) if key != COMPONENT and _told(node, key)]:
            state.put(name, worth)
        elif node.use is not None and predictions.component(node.use):
            state.put(name, [COMPONENT])
            if state.keep(f"{name}.{COMPONENT}", own_component(node)) == own_component(node):
                state.put(f"{name}.{COMPONENT}", _alike(node))


def own_component(node: Node) -> list[str]:
    """Return the component that stands in a node as the list of those that may."""
    return [str(node.use)]


def text_of(node: Node, key: str, field: Field | None) -> str:
    """Return the values to begin with as they are written: those worth searching, around what is there."""
    return ", ".join(shown(one) for one in _worth(node, key, field))


def values_of(text: str, field: Field | None) -> list[Any]:
    """Read values with commas between them; words stay words, on and off are true and false."""
    found: list[Any] = []
    for part in text.split(","):
        word = part.strip()
        if not word:
            continue
        if word in ("on", "off") and (field is None or field.kind == "boolean"):
            value: Any = word == "on"
        elif word == "none":
            value = None
        else:
            try:
                value = json.loads(word)
            except ValueError:
                value = word
        if value not in found and not isinstance(value, (list, dict)):
            found.append(value)
    return found


def _told(node: Node, key: str) -> list[Any]:
    """Return what a component calls worth searching of a parameter."""
    entry = predictions.component(str(node.use)) or {}
    told = entry["params_schema"]["properties"].get(key, {}).get("search") if entry else None
    return list(told) if isinstance(told, list) else []


def _worth(node: Node, key: str, field: Field | None) -> list[Any]:
    """Return the values to begin with; what the design has is one of them, so that it lies in its own space."""
    if key == ORDER and field is None:
        return _orders([one.id for one in node.nodes])
    if field is None:
        here = int(getattr(node, REPEAT, 1) or 1)
        return sorted({max(1, here - 1), here, here + 1})
    here_value = node.params.get(key, field.default)
    if told := _told(node, key):
        if here_value in told or (here_value is None and field.required):
            return told
        found = [here_value, *told]
        numbers = all(isinstance(one, (int, float)) for one in found)
        return sorted(found) if numbers else found
    if field.kind == "boolean":
        return [False, True]
    if field.kind == "choice":
        return list(field.choices)
    return [here_value] if here_value is not None else []


def _orders(ids: list[str]) -> list[str]:
    """Return a group's order and those in which two neighbours change places."""
    found = [list(ids)]
    for at in range(len(ids) - 1):
        found.append([*ids[:at], ids[at + 1], ids[at], *ids[at + 2 :]])
    return [" ".join(one) for one in found]


def _alike(node: Node) -> list[str]:
    """Return the components of a slot's kind that cost alike and have as little to set; where it is alone, all."""
    own = predictions.component(str(node.use)) or {}
    same = [one for one in predictions.components() if one["kind"] == own.get("kind")]

    def plain(entry: Mapping[str, Any]) -> bool:
        schema = entry["params_schema"].get("properties", {})
        return not any(isinstance(one.get("search"), list) for one in schema.values())

    alike = [one for one in same if plain(one) and one["cost"] == own.get("cost")]
    return [str(one["name"]) for one in (alike if len(alike) > 1 else same)]
