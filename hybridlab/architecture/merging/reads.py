"""What the nodes of a merge are called, and whom they read: nobody comes to read another node by a name's accident."""

from __future__ import annotations

from collections.abc import Iterator

from hybridlab.architecture.document import implied_ids
from hybridlab.architecture.merging.choices import Choices
from hybridlab.architecture.merging.parts import Part, Parts, Reads
from hybridlab.architecture.spec import INPUT


def name(held: list[Part], choices: Choices) -> None:
    """Give siblings different ids; those that mine has keep theirs."""
    kept: list[Part] = []
    taken: set[str] = set()
    for part in held:
        own = part.mine is not None and part.values["id"] == part.mine.node.id
        if own and part.values["id"] not in taken:  # two of mine may come from different groups
            kept.append(part)
            taken.add(part.values["id"])
    for part in held:
        wanted = part.values["id"]
        if wanted is None or part in kept:
            continue
        part.values["id"] = free = _free(wanted, taken)
        taken.add(free)
        if free != wanted:
            whose = "your" if part.mine else "the other's"
            choices.note(f"The name {wanted} is taken, so {whose} node is called {free}.")
    short = [
        {"use": part.values["use"]} | ({"id": part.values["id"]} if part.values["id"] else {})
        for part in held
    ]
    for part, found in zip(held, implied_ids(short), strict=True):
        part.id, part.named = found, part.values["id"] is not None
        name(part.children, choices)


def decide_reads(top: list[Part], parts: Parts, choices: Choices) -> None:
    """Let every node read what it should, also where that is gone, elsewhere or called otherwise now."""
    readers = [part for part in walk(top) if part.values["inputs"] is not None]
    for part in readers:
        before = list(part.values["inputs"])
        found = [one for wanted in before for one in _seen(parts, choices, part, wanted)]
        if found != before:
            part.values["inputs"] = tuple(dict.fromkeys(found))
    taken = {part.id for part in walk(top)}
    for part in readers:
        for target in part.values["inputs"]:
            if isinstance(target, Part):
                _uncover(top, part, target, taken)
                target.named = True


def walk(held: list[Part]) -> Iterator[Part]:
    """Yield nodes and those in them, in reading order."""
    for part in held:
        yield part
        yield from walk(part.children)


def _seen(
    parts: Parts, choices: Choices, reader: Part, wanted: Part | str, depth: int = 0
) -> Reads:
    """Return what a node reads in the place of something that is gone, or stands inside a group now."""
    if isinstance(wanted, str):
        return (wanted,)
    if wanted.gone:
        choices.note(
            f"{reader.id} read {wanted.any.node.id}, which is gone; it reads what that read."
        )
        if depth > len(parts.all):
            return (INPUT,)
        instead = (_seen(parts, choices, reader, one, depth + 1) for one in parts.read_by(wanted))
        return tuple(one for found in instead for one in found)
    scopes = _scopes(reader)
    if wanted.parent in scopes:
        return (wanted,)
    while wanted.parent not in scopes:
        assert wanted.parent is not None
        wanted = wanted.parent
    return (INPUT,) if wanted is reader or wanted in scopes else (wanted,)


def _uncover(top: list[Part], reader: Part, target: Part, taken: set[str]) -> None:
    """Give another id to a node that stands between a reader and what it reads under the same name."""
    while (found := _means(top, reader, target.id)) is not None and found is not target:
        other = target if found.mine is not None and target.mine is None else found
        other.id, other.named = _free(other.id, taken), True
        taken.add(other.id)


def _means(top: list[Part], reader: Part, wanted: str) -> Part | None:
    """Return the node that a name means at a reader's place."""
    for scope in _scopes(reader):
        for part in scope.children if scope else top:
            if part.id == wanted:
                return part
    return None


def _scopes(part: Part) -> list[Part | None]:
    """Return the groups around a node, from the inside out, and None for the top."""
    around: list[Part | None] = []
    group = part.parent
    while group is not None:
        around.append(group)
        group = group.parent
    return [*around, None]


def _free(wanted: str, taken: set[str]) -> str:
    found, number = wanted, 2
    while found in taken:
        found, number = f"{wanted[:56]}_{number}", number + 1
    return found
