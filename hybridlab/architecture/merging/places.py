"""Where the nodes of a merge stand: in which group, and in which order."""

from __future__ import annotations

from hybridlab.architecture.merging.choices import Choices, place
from hybridlab.architecture.merging.parts import SIDES, Part, Parts, Side


def decide_parents(parts: Parts, choices: Choices) -> None:
    """Give every node that stays the group it stands in; nodes whose group is gone go with it, or outside."""
    there = parts.present()
    for part in sorted(
        there, key=lambda part: part.base is not None
    ):  # new groups may go, old nodes not
        part.parent = _parent(parts, choices, part)
    for part in there:
        _break_circle(parts, choices, part)


def ordered(parts: Parts, choices: Choices, group: Part | None = None) -> list[Part]:
    """Return what stands in a group, in order; groups in which nothing is left are left out."""
    held = [part for part in parts.present() if part.parent is group]
    for part in held:
        if part.is_group:
            part.children = ordered(parts, choices, part)
            part.gone = not part.children
    held = [part for part in held if not part.gone]
    inside = set(map(id, held))

    def only(order: list[Part]) -> list[Part]:
        return [part for part in order if id(part) in inside]

    mine, theirs = (only(parts.order(group, side)) for side in SIDES)
    common = set(map(id, mine)) & set(map(id, theirs))
    before = [part for part in only(parts.base_order(group)) if id(part) in common]
    common = set(map(id, before))
    first = _first(
        choices, group, before, *([p for p in o if id(p) in common] for o in (mine, theirs))
    )
    result = _with_new(mine, theirs) if first == "mine" else _with_new_before(theirs, mine)
    return _with_rest(result, only(parts.base_order(group)), held)


def _first(
    choices: Choices, group: Part | None, before: list[Part], mine: list[Part], theirs: list[Part]
) -> Side:
    """Return whose order of the nodes that all three have is taken."""
    if theirs in (before, mine):
        return "mine"
    if mine == before:
        return "theirs"
    words = [", ".join(part.any.node.id for part in order) for order in (mine, theirs)]
    sentence = f"{place(group)}: you and the other put its nodes into different orders."
    return choices.choose(f"{group.key if group else 'nodes'}:order", sentence, *words)


def _with_new(order: list[Part], other: list[Part]) -> list[Part]:
    """Return an order with what the other has beside, each before what follows it there."""
    result, known = list(order), set(map(id, order))
    for index, part in enumerate(other):
        if id(part) not in known:
            after = next((one for one in other[index + 1 :] if id(one) in known), None)
            result.insert(result.index(after) if after else len(result), part)
    return result


def _with_new_before(order: list[Part], other: list[Part]) -> list[Part]:
    """Return an order with what the other has beside, each behind what stands before it there."""
    result, known = list(order), set(map(id, order))
    for index, part in enumerate(other):
        if id(part) not in known:
            result.insert(result.index(other[index - 1]) + 1 if index else 0, part)
    return result


def _with_rest(result: list[Part], before: list[Part], held: list[Part]) -> list[Part]:
    """Return an order with nodes that neither side has here, such as those left over from a group taken apart."""
    for order in (before, held):
        result = _with_new(result, [part for part in order if part in result or part in held])
    return result


def _parent(parts: Parts, choices: Choices, part: Part) -> Part | None:
    before = parts.around(part)
    given = [_parent_on(parts, part, side) for side in SIDES if part.on(side) is not None]
    chosen = given[0]
    if len(given) == 2 and part.base is not None and given[0] is not given[1]:
        mine, theirs = given
        if theirs is not before:
            chosen = theirs
            if mine is not before:
                words = [f"into {place(group)}" for group in given]
                sentence = f"{part.any.name}: you moved it {words[0]}, the other {words[1]}."
                side = choices.choose(f"{part.key}:place", sentence, *words)
                chosen = mine if side == "mine" else theirs
    for group in (chosen, *given, *([before] if part.base else [])):
        if group is None or not group.gone:
            return group
    return _beyond(parts, part, chosen)


def _parent_on(parts: Parts, part: Part, side: Side) -> Part | None:
    """Return a side's group for a node; that a group was taken apart moves nothing where the group stays."""
    item, before = part.on(side), parts.around(part)
    assert item is not None
    if before is not None and before.on(side) is None and not before.gone:
        return before
    return parts.parent(item)


def _beyond(parts: Parts, part: Part, group: Part | None) -> Part | None:
    """Return where a node goes whose group is gone: outside, where the group was taken apart, or away with it."""
    while group is not None and group.gone:
        if part.base is None and all(kid.gone for kid in parts.base_order(group)):
            part.gone = True
            return None
        group = parts.around(group) if group.base else parts.parent(group.any)
    return group


def _break_circle(parts: Parts, choices: Choices, part: Part) -> None:
    """Put nodes that would stand inside each other where mine has them."""
    while True:
        seen = [part]
        while (around := seen[-1].parent) is not None and around not in seen:
            seen.append(around)
        if around is None:
            return
        inside = [one for one in seen[seen.index(around) :] if one.mine is not None]
        for one in inside:
            assert one.mine is not None
            group = parts.parent(one.mine)
            one.parent = None if group is not None and group.gone else group
        names = " and ".join(one.any.name for one in inside)
        choices.note(f"{names} would stand inside each other; they stay where you have them.")
