"""Which nodes a merge keeps, and what each of them says."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.matching import Item
from hybridlab.architecture.merging.choices import MISSING, Choices, changed, component, place
from hybridlab.architecture.merging.parts import OTHER, SIDES, Part, Parts, Side, same

_WHO: dict[Side, str] = {"mine": "you", "theirs": "the other"}


def decide_presence(parts: Parts, choices: Choices) -> None:
    """Say of every node whether it goes: what one side removed goes, unless the other side changed it and is chosen."""
    for part in parts.all:
        part.gone = part.mine is None and part.theirs is None
    for side in SIDES:
        for part in parts.all:
            if _removed(part, side) and not _removed(parts.around(part), side):
                _decide_removed(parts, choices, part, side)


def decide_values(parts: Parts, choices: Choices, part: Part) -> None:
    """Merge what a node says on both sides; a replaced component is one thing with its parameters."""
    mine, theirs, before = part.mine, part.theirs, part.base
    if mine is None or theirs is None:
        part.values = parts.values(part.any)
        part.values["use"], part.params = part.any.node.use, dict(part.any.node.params)
        return
    old = parts.values(before) if before else {}
    own, other = parts.values(mine), parts.values(theirs)
    for key in own:
        values = (old.get(key, MISSING), own[key], other[key])
        part.values[key] = choices.three(f"{part.key}:{key}", key, mine.name, *values)
    if {mine.node.use, theirs.node.use} == {before.node.use if before else mine.node.use}:
        part.values["use"], part.params = mine.node.use, _params(choices, part, mine, theirs)
    else:
        item = _component(choices, part, mine, theirs)
        part.values["use"], part.params = item.node.use, dict(item.node.params)


def _params(choices: Choices, part: Part, mine: Item, theirs: Item) -> dict[str, Any]:
    before = part.base.node.params if part.base else {}
    merged = {}
    for key in dict.fromkeys([*mine.node.params, *theirs.node.params]):
        values = (
            params.get(key, MISSING) for params in (before, mine.node.params, theirs.node.params)
        )
        value = choices.three(f"{part.key}:{key}", key, mine.name, *values)
        if value is not MISSING:
            merged[key] = value
    return merged


def _component(choices: Choices, part: Part, mine: Item, theirs: Item) -> Item:
    """Return the version whose component is taken, with its parameters."""
    before = part.base
    old, own, other = (
        [item.node.use, item.node.params] if item else None for item in (before, mine, theirs)
    )
    if same(own, other) or same(other, old):
        return mine
    if same(own, old):
        return theirs
    words = [component(before, item) for item in (mine, theirs)]
    sentence = f"{mine.name}: you made it {words[0]}, the other {words[1]}."
    return mine if choices.choose(f"{part.key}:use", sentence, *words) == "mine" else theirs


def _removed(part: Part | None, side: Side) -> bool:
    """Say whether this side removed a node that the base had and the other side has."""
    if part is None or part.base is None:
        return False
    return part.on(side) is None and part.on(OTHER[side]) is not None


def _decide_removed(parts: Parts, choices: Choices, root: Part, side: Side) -> None:
    """Let a node go with what was removed with it, unless the other side changed something there and that is chosen."""
    other = OTHER[side]
    removed = [root]
    for part in parts.in_base_order():
        if _removed(part, side) and parts.around(part) in removed:
            removed.append(part)
    done = [words for part in removed for words in _changes(parts, part, other, root)]
    keep = False
    if done:
        more = len(done) - 3
        what = ", ".join(done[:3]) + (f" and {more} more" if more > 0 else "")
        sentence = f"{root.any.name}: {_WHO[side]} removed it, {_WHO[other]} changed it: {what}."
        words = {side: "remove it", other: "keep it, as it was changed"}
        key = f"{root.key}:removed"
        keep = choices.choose(key, sentence, words["mine"], words["theirs"]) == other
    for part in removed:
        part.gone = not keep


def _changes(parts: Parts, part: Part, side: Side, root: Part) -> list[str]:
    """Return in words what a side did to a node of the base, and put into it."""
    before, item = part.base, part.on(side)
    assert before is not None
    assert item is not None
    old, new = parts.values(before), parts.values(item)
    old["use"], new["use"] = before.node.use, item.node.use
    for key in dict.fromkeys([*before.node.params, *item.node.params]):
        old[f"={key}"], new[f"={key}"] = (
            one.node.params.get(key, MISSING) for one in (before, item)
        )
    said = [
        changed(key.removeprefix("="), old[key], new[key])
        for key in old
        if not same(old[key], new[key])
    ]
    around, now = parts.around(part), parts.parent(item)
    if around is not now and not (around and around.on(side) is None):
        said.append(f"moved into {place(now)}")
    for child in item.children:
        kid = parts.of(child)
        if kid.base is None or parts.around(kid) is not part:
            said.append(f"{child.node.id} put into it")
    return said if part is root else [f"{item.node.id} {words}" for words in said]
