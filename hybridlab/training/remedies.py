"""What helps against a finding of the gradient flow: settings, a group of weights, or edits of the architecture.

A remedy is applied to the text and the settings of a run and gives those of a new one, to be compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hybridlab.architecture import edit
from hybridlab.architecture.document import loads

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")
_MOST_LETTERS = 40


@dataclass(frozen=True)
class Change:
    """One edit of the architecture: a parameter or field of the node at a path of ids, or another component there."""

    ids: str
    key: str
    value: Any


@dataclass(frozen=True)
class Remedy:
    """Something to try: what it changes, and why it may help."""

    name: str
    """One word, unique among those of a finding: ``clip``, ``rate``, ``freeze``, ``norm``, ``depth``, …"""
    title: str
    reason: str
    source: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    group: Mapping[str, Any] = field(default_factory=dict)
    """A row of ``groups`` without its name; a row that takes the same weights is changed, else it stands first."""
    changes: tuple[Change, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        told = asdict(self) | {"settings": dict(self.settings), "group": dict(self.group)}
        return told | {"changes": [asdict(change) for change in self.changes]}


def applied(remedy: Remedy, text: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return an architecture's text and a training's settings with a remedy in them.

    Raises:
        SpecError: the text has no such node.
    """
    places = {ids: path for path, ids, _ in loads(text).walk()} if remedy.changes else {}
    for change in remedy.changes:
        path = places.get(change.ids, change.ids)
        if change.key == "use":
            text = edit.replace(text, path, str(change.value), [])
        else:
            text = edit.set_parameter(text, path, change.key, change.value)
    changed = {**settings, **remedy.settings}
    if remedy.group:
        changed["groups"] = _with_group(remedy, list(settings.get("groups") or ()))
    return text, changed


def _with_group(remedy: Remedy, groups: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return groups with one more in front, which the first that fits takes its weights; a like one is changed."""
    wanted = remedy.group
    taken = ("match", "weights", "use", "kind", "depth")
    empty = {"match": "*", "weights": "*", "use": None, "kind": None, "depth": [0.0, 1.0]}

    def which(group: Mapping[str, Any]) -> list[Any]:
        values = [group.get(key, empty[key]) for key in taken]
        return [list(value) if isinstance(value, tuple) else value for value in values]

    for place, group in enumerate(groups):
        if which(group) == which(wanted):
            rate = wanted.get("rate")
            both = {**group, **wanted}
            if rate is not None:
                both["rate"] = float(group.get("rate") or 1.0) * rate
            return [*map(dict, groups[:place]), both, *map(dict, groups[place + 1 :])]
    names = {str(group.get("name")) for group in groups}
    return [{"name": _named(remedy, names), **wanted}, *map(dict, groups)]


def _named(remedy: Remedy, taken: set[str]) -> str:
    """Return a name for a group: what is done, and to which part."""
    part = _NOT_IN_NAMES.sub(" ", str(remedy.group.get("match", ""))).strip()
    name = base = f"{remedy.name} {part}"[:_MOST_LETTERS].strip()
    number = 2
    while name in taken:
        name = f"{base[: _MOST_LETTERS - 3]} {number}"
        number += 1
    return name
