"""Conflicts of a merge: what both sides changed in different ways, in words, and which side is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.compare import FieldChange
from hybridlab.architecture.matching import Item
from hybridlab.architecture.merging.parts import Part, Side, same


class _Missing:
    def __repr__(self) -> str:
        return "a value that is not there"


MISSING = _Missing()
"""Stands where a parameter is not written, which is not the same as being empty."""


@dataclass(frozen=True)
class Conflict:
    """What both sides changed in different ways: said in a sentence, with what each choice would give."""

    key: str
    sentence: str
    mine: str
    theirs: str


class Choices:
    """The choices somebody made, and the conflicts that a merge comes upon."""

    def __init__(self, made: Mapping[str, Side]) -> None:
        """Begin with the choices that were made, by the keys of conflicts; mine stands where none was."""
        self._made = made
        self.conflicts: dict[str, Conflict] = {}
        self.notes: list[str] = []

    def choose(self, key: str, sentence: str, mine: str, theirs: str) -> Side:
        """Add a conflict and return the side to take."""
        self.conflicts[key] = Conflict(key, sentence, mine, theirs)
        return self._made.get(key, "mine")

    def three(self, key: str, what: str, where: str, before: Any, mine: Any, theirs: Any) -> Any:
        """Return a value merged from three; where both sides changed it in different ways, the one that is chosen."""
        if same(mine, theirs) or same(theirs, before):
            return mine
        if same(mine, before):
            return theirs
        old, own, other = (said(what, value) for value in (before, mine, theirs))
        sentence = f"{where}: you set {what} to {own}, the other to {other}"
        sentence += "." if before is MISSING else f"; it was {old}."
        side = self.choose(key, sentence, f"{what} {own}", f"{what} {other}")
        return mine if side == "mine" else theirs

    def note(self, sentence: str) -> None:
        """Keep what was settled by itself in a way that somebody may want to know; each once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def said(key: str, value: Any) -> str:
    """Return a value as people write it."""
    if value in (None, MISSING) and key == "inputs":
        return "the node above"
    if isinstance(value, tuple):
        value = [one.any.node.id if isinstance(one, Part) else one for one in value]
    return FieldChange(key, None, None if value is MISSING else value).words().rpartition(" → ")[2]


def changed(key: str, before: Any, after: Any) -> str:
    """Return a change as people write it, such as ``heads 4 → 8``."""
    words = "component" if key == "use" else key
    return f"{words} {said(key, before)} → {said(key, after)}"


def place(group: Part | None) -> str:
    """Return what a group is called, and the top level where there is none."""
    return group.any.name if group else "the top level"


def component(before: Item | None, after: Item) -> str:
    """Return a component with the parameters that are not as before."""
    old = before.node if before and before.node.use == after.node.use else None
    new = [
        f"{key} {said(key, value)}"
        for key, value in after.node.params.items()
        if old is None or not same(old.params.get(key, MISSING), value)
    ]
    return f"{after.node.use} with {', '.join(new)}" if new else str(after.node.use)
