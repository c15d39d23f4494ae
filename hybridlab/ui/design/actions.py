"""Changes of the session's design, as callbacks of widgets; what goes wrong is told on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hybridlab.architecture import edit
from hybridlab.architecture.spec import INPUT, Node
from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import predictions, state
from hybridlab.ui.schema import fields

_LAST = re.compile(r"nodes\[(\d+)\]$")


def apply(change: Callable[[str], str], select: str | None = None) -> None:
    """Change the design's text and select a node; a change that cannot be made is told instead."""
    current = state.design()
    if current is None:
        return
    try:
        current.change(change(current.text), select)
    except HybridLabError as error:
        state.put("design_notice", list(error.problems))


def notice() -> list[Problem]:
    """Return what the last change had to tell, once."""
    said: list[Problem] = state.keep("design_notice", [])
    state.put("design_notice", [])
    return said


def nodes() -> dict[str, Node]:
    """Return the design's nodes by address, in reading order; empty while the text cannot be read."""
    current = state.design()
    architecture = state.parsed(current.text)[0] if current else None
    return {path: node for path, _, node in architecture.walk()} if architecture else {}


def select(path: str | None) -> None:
    """Select a node by its address."""
    if current := state.design():
        current.selected = path


def selected() -> str | None:
    """Return the selected node's address, or None where it has gone."""
    current = state.design()
    return current.selected if current and current.selected in nodes() else None


def index_of(path: str) -> int:
    """Return a node's place among its siblings."""
    match = _LAST.search(path)
    return int(match[1]) if match else 0


def sibling(path: str, index: int) -> str:
    """Return the address of the node at another place among the same siblings."""
    return _LAST.sub(f"nodes[{index}]", path)


def siblings(path: str) -> list[Node]:
    """Return a node and the nodes beside it, in order."""
    known, found, index = nodes(), [], 0
    while (node := known.get(sibling(path, index))) is not None:
        found.append(node)
        index += 1
    return found


def move(path: str, by: int) -> None:
    """Move a node among its siblings; it stays selected."""
    target = max(0, min(len(siblings(path)) - 1, index_of(path) + by))
    apply(lambda text: edit.move(text, path, by), sibling(path, target))


def duplicate(path: str) -> None:
    """Copy a node behind itself and select the copy."""
    apply(lambda text: edit.duplicate(text, path), sibling(path, index_of(path) + 1))


def remove(path: str) -> None:
    """Remove a node and select the one that takes its place."""
    left = len(siblings(path)) - 1
    target = sibling(path, min(index_of(path), left - 1)) if left else path.rpartition(".")[0]
    apply(lambda text: edit.remove(text, path), target)


def wrap(path: str) -> None:
    """Put a node into a group that repeats twice and select the group."""
    apply(lambda text: edit.wrap(text, path), path)


def unwrap(path: str) -> None:
    """Put a group's nodes in its place."""
    apply(lambda text: edit.unwrap(text, path), path)


def set_value(path: str, key: str, value: Any) -> None:
    """Set a parameter or a field of a node; None brings back its default."""
    if not _is(nodes().get(path), key, value):
        apply(lambda text: edit.set_parameter(text, path, key, value))


def _is(node: Node | None, key: str, value: Any) -> bool:
    """Say whether a node has this value: a browser whose page was drawn anew may report what nobody touched."""
    if node is None:
        return False
    if key in ("id", "residual"):
        return bool(value == (str(getattr(node, key)) if getattr(node, key) else None))
    if key == "inputs":
        return list(value or ()) == list(node.inputs or ())
    if key in ("repeat", "tie"):
        return bool((value or Node.model_fields[key].default) == getattr(node, key))
    return key in node.params and bool(node.params[key] == value)


def reset(path: str) -> None:
    """Bring every parameter of a node back to its default."""
    node = nodes().get(path)
    names = list(node.params) if node else []

    def change(text: str) -> str:
        for name in names:
            text = edit.set_parameter(text, path, name, None)
        return text

    apply(change)


def rename(path: str, new_id: str) -> None:
    """Give a node another id."""
    if not _is(nodes().get(path), "id", new_id):
        apply(lambda text: edit.rename(text, path, new_id))


def replace(path: str, use: str) -> None:
    """Put another component in a node's place."""
    entry = predictions.component(use)
    known = [field.name for field in fields(entry["params_schema"])] if entry else []
    apply(lambda text: edit.replace(text, path, use, known))


def add(use: str, where: str) -> None:
    """Add a component after, inside or beside the selected node, or at the end, and select it."""
    path = selected()
    node = _new(use, path if where != "inside" else None)
    current = nodes()
    if path is None:
        top = sum("." not in address for address in current)
        apply(lambda text: edit.add(text, node), f"nodes[{top}]")
    elif where == "inside" and current[path].is_group:
        last = len(current[path].nodes)
        apply(lambda text: edit.add(text, node, into=path), f"{path}.nodes[{last}]")
    elif where == "beside":
        _add_beside(path, node)
    else:
        apply(lambda text: edit.add(text, node, after=path), sibling(path, index_of(path) + 1))


def _add_beside(path: str, node: dict[str, Any]) -> None:
    """Add a second branch that reads what the selected node reads, and a sum that joins both."""
    around, index = siblings(path), index_of(path)
    first = around[index]
    reads = list(first.inputs or ([around[index - 1].id] if index else [INPUT]))
    taken = {item.id for item in around}
    new_id = _fresh(str(node["use"]), taken)
    branch = {"id": new_id, **node, "inputs": reads}
    join = {"id": _fresh("join", taken), "use": "sum", "inputs": [first.id, new_id]}
    target = sibling(path, index + 1)

    def change(text: str) -> str:
        text = edit.set_parameter(text, path, "id", first.id)
        text = edit.add(text, branch, after=path)
        return edit.add(text, join, after=target)

    apply(change, target)


def _new(use: str, path: str | None) -> dict[str, Any]:
    """Return a new node: with a value for each parameter that has no default, and inputs where it needs several."""
    node: dict[str, Any] = {"use": use}
    entry = predictions.component(use)
    if entry is None:
        return node
    for field in fields(entry["params_schema"]):
        if field.required:
            node[field.name] = (
                field.choices[0] if field.choices else max(int(field.minimum or 1), 10)
            )
    if entry["min_inputs"] > 1 and path is not None:
        before = siblings(path)[: index_of(path) + 1]
        wanted = [item.id for item in before[-int(entry["min_inputs"]) :]]
        node["inputs"] = wanted if len(wanted) > 1 else [INPUT, *wanted]
    return node


def _fresh(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return name
