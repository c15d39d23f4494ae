"""Marks on a design: for every node what may vary, and among which values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture.spec import Architecture, Node
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.schema import Field, fields, shown
from hybridlab.ui.search import kept

MOST_NODES = 60
_COMPONENT, _REPEAT = "use", "repeat"
_KINDS = ("integer", "number", "boolean", "choice")


def marks(architecture: Architecture, history: str) -> dict[str, Any]:
    """Let the user mark what may vary; return a search file's ``search``."""
    prefix = f"search.marks.{history}"
    found: dict[str, Any] = {}
    if values := _width(architecture, prefix):
        found["width"] = values
    nodes = [(ids, node) for _, ids, node in architecture.walk()]
    for ids, node in nodes[:MOST_NODES]:
        keys = _keys(node)
        if not keys:
            continue
        empty: list[str] = []
        taken = state.keep(f"{prefix}.{ids}", empty)
        title = f"{ids} · {'group' if node.is_group else node.use}"
        if taken:
            title += f" · {', '.join(_label(one, keys) for one in taken if one in keys)}"
        with st.expander(shell.escaped(title), key=f"{prefix}.{ids}.box", expanded=bool(taken)):
            mine = _node(ids, node, keys, prefix)
        if mine:
            found[ids] = mine
    if len(nodes) > MOST_NODES:
        st.caption(f"{len(nodes) - MOST_NODES} more nodes can be marked in a search file.")
    return found


def _width(architecture: Architecture, prefix: str) -> list[Any]:
    width = architecture.width
    text = kept.text(
        "Widths",
        f"{prefix}.width",
        "",
        placeholder=f"{width // 2}, {width}, {width * 2}",
        help=f"The widths to choose among, such as {width // 2}, {width}; empty: {width} always.",
    )
    return _values(text, None)


def _keys(node: Node) -> dict[str, Field | None]:
    """Return what may vary in a node: a repeat of a group, the component, and its parameters."""
    if node.is_group:
        return {_REPEAT: None}
    entry = predictions.component(str(node.use))
    if entry is None:
        return {}
    known: dict[str, Field | None] = {_COMPONENT: None}
    known |= {one.name: one for one in fields(entry["params_schema"]) if one.kind in _KINDS}
    return known


def _label(key: str, keys: Mapping[str, Field | None]) -> str:
    field = keys[key]
    if field is not None:
        return field.label
    return "Component" if key == _COMPONENT else "Repeats"


def _node(
    ids: str, node: Node, keys: Mapping[str, Field | None], prefix: str
) -> dict[str, list[Any]]:
    """Show one node's marks; return those that are made, with their values."""
    taken = kept.several(
        "May vary", f"{prefix}.{ids}", {key: _label(key, keys) for key in keys}, []
    )
    found: dict[str, list[Any]] = {}
    for key in taken:
        name = f"{prefix}.{ids}.{key}"
        if key == _COMPONENT:
            found[key] = _components(node, name)
            continue
        field = keys[key]
        first = _worth(node, key, field)
        text = kept.text(
            f"{_label(key, keys)}: values",
            name,
            ", ".join(shown(one) for one in first),
            help=(field.explanation if field is not None else "How often the group is repeated."),
        )
        values = _values(text, field)
        if not values:
            st.error("Values are written with commas between them.", icon=":material/error:")
        found[key] = values
    return {key: values for key, values in found.items() if values}


def _components(node: Node, name: str) -> list[Any]:
    own = predictions.component(str(node.use)) or {}
    fitting = {
        str(entry["name"]): str(entry["title"])
        for entry in predictions.components()
        if entry["kind"] == own.get("kind")
    }
    return list(kept.several("Components that may stand here", name, fitting, [str(node.use)]))


def _worth(node: Node, key: str, field: Field | None) -> list[Any]:
    """Return the values to begin with: what the component calls worth searching, around what is there."""
    if field is None:
        here = int(getattr(node, _REPEAT, 1) or 1)
        return sorted({max(1, here - 1), here, here + 1})
    entry = predictions.component(str(node.use)) or {}
    told = entry["params_schema"]["properties"].get(key, {}).get("search")
    if isinstance(told, list) and told:
        return list(told)
    if field.kind == "boolean":
        return [False, True]
    if field.kind == "choice":
        return list(field.choices)
    here_value = node.params.get(key, field.default)
    return [here_value] if here_value is not None else []


def _values(text: str, field: Field | None) -> list[Any]:
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
