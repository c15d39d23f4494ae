"""A fix: a title for its button, and edits in the words of the canvas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture import edit

Change = dict[str, Any]
"""One edit, such as ``{"do": "set", "path": "nodes[1]", "key": "heads", "value": 4}``; addresses are those after the
edits before it."""


@dataclass(frozen=True)
class Fix:
    """What a button says and does; all its changes are one step of undo."""

    title: str
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fix as plain JSON."""
        return {"title": self.title, "changes": list(self.changes)}


def from_dict(raw: Mapping[str, Any]) -> Fix:
    """Return the fix that ``as_dict`` wrote."""
    return Fix(str(raw["title"]), tuple(raw["changes"]))


def setting(path: str, key: str, value: Any) -> Change:
    """Return the change that sets a key of a node; None removes it. Without a path, a key of the architecture."""
    if not path:
        return {"do": "field", "key": key, "value": value}
    return {"do": "set", "path": path, "key": key, "value": value}


def applied(text: str, fix: Fix) -> str:
    """Return the text with a fix.

    Raises:
        SpecError: the text has no such node.
    """
    for change in fix.changes:
        text = _MAKE[change["do"]](text, change)
    return text


def _replaced(text: str, change: Change) -> str:
    text = edit.replace(text, change["path"], change["use"], change["keep"])
    for key, value in change["give"].items():
        text = edit.set_parameter(text, change["path"], key, value)
    return text


_MAKE: dict[str, Callable[[str, Change], str]] = {
    "set": lambda text, c: edit.set_parameter(text, c["path"], c["key"], c["value"]),
    "field": lambda text, c: edit.set_field(text, c["key"], c["value"]),
    "insert": lambda text, c: edit.insert(text, c["at"], c["node"]),
    "remove": lambda text, c: edit.remove(text, c["path"]),
    "move": lambda text, c: edit.move(text, c["path"], c["by"]),
    "wrap": lambda text, c: edit.wrap(text, c["path"], repeat=c["repeat"], count=c["count"]),
    "replace": _replaced,
}
