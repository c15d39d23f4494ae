"""Nodes in a row become a group, or a group its nodes, and every node goes on reading what it read. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybridlab.architecture.document import implied_ids
from hybridlab.architecture.naming import (
    flow_list,
    fresh,
    inputs_of,
    is_read,
    names_in,
    names_read,
    read_by,
    rename_inputs,
    write_id,
)
from hybridlab.architecture.share_paths import Scopes, follow, shared
from hybridlab.architecture.spec import INPUT
from hybridlab.errors import Problem, SpecError


def gather(
    siblings: Any, index: int, count: int, *, repeat: int, group_id: str | None, path: str
) -> None:
    """Put ``count`` siblings from ``index`` on into a new group in their place; names in use must be written out.

    ``path`` is the first one's address, for what is said where this cannot be.

    Raises:
        SpecError: a node outside reads one of them that is not the last, which is all that a group hands on.
    """
    inner = siblings[index : index + max(1, count)]
    outside = [*siblings[:index], *siblings[index + len(inner) :]]
    _refuse_strays(inner, outside, path)
    before = implied_ids(siblings)[index : index + len(inner)]
    group = CommentedMap({"id": group_id or fresh("stage", set(names_in(siblings)))})
    if repeat != 1:
        group["repeat"] = repeat
    if (wanted := _entrance(siblings, index, inner)) is not None:
        group["inputs"] = wanted
    _keep_ids(inner, before)
    group["nodes"] = CommentedSeq(inner)
    comments = _comments(siblings)
    _comments(group["nodes"]).update(
        {
            place: comments.pop(index + place)
            for place in range(len(inner))
            if index + place in comments
        }
    )
    for place in reversed(range(index + 1, index + len(inner))):
        del siblings[place]
    siblings[index] = group
    if last := inner[-1].get("id"):
        rename_inputs(outside, last, [group["id"]])


def scatter(siblings: Any, index: int, scopes: Scopes, *, path: str) -> None:
    """Put the nodes of the group at ``index`` in its place; names in use must be written out.

    ``scopes`` are the siblings and those around them.

    Raises:
        SpecError: another group shares the weights of this one as a whole.
    """
    group = siblings[index]
    children, name = list(group["nodes"] or ()), implied_ids(siblings)[index]
    outside = [*siblings[:index], *siblings[index + 1 :]]
    if not children:
        del siblings[index]
        return
    lent = set(shared(scopes, name))
    if "" in lent:
        _refuse_borrowers(name, path)
    before = implied_ids(children)
    entering = read_by(siblings, index) if any(INPUT in inputs_of(c) for c in children) else []
    read = is_read(outside, name)
    if read:
        write_id(children, len(children) - 1)
    lender = str(group.get("share") or "").partition(".")[0]
    around = {name, lender, *implied_ids(outside), *names_read(outside)}
    around |= {*inputs_of(group), *entering}
    deep = around.union(_ids_in(outside), *(_ids_in(child.get("nodes")) for child in children))
    taken = deep | {*names_in(outside), *names_in(children)}
    for child in children:
        if (old := child.get("id")) is None:
            continue
        named = (read and child is children[-1]) or any(
            f"{one}.".startswith(f"{old}.") for one in lent
        )
        new = fresh(str(old), taken) if old in (deep if named else around) else old
        taken.add(new)
        if new != old:
            child["id"] = new
            rename_inputs(children, old, [new])
            follow([(children, "")], old, new)
        follow(scopes, f"{name}.{old}", new)
    _enter(children, entering)
    if "inputs" in group and "inputs" not in children[0]:
        children[0]["inputs"] = group["inputs"]
    if lender:
        for child, old in zip(children, before, strict=True):
            child["share"] = f"{group['share']}.{old}"
    if children[-1].get("id"):
        rename_inputs(outside, name, [children[-1]["id"]])
    del siblings[index]
    for place, child in enumerate(children):
        siblings.insert(index + place, child)
    _comments(siblings).update({index + at: one for at, one in _comments(group["nodes"]).items()})
    _keep_unread(siblings)


def _comments(nodes: Any) -> dict[int, Any]:
    """Return the comments at the ends of nodes' lines by their places, to be changed."""
    return nodes.ca.items if isinstance(nodes, CommentedSeq) else {}


def _ids_in(nodes: Any) -> Iterator[str]:
    """Yield every id, implied ones too, at any depth."""
    if isinstance(nodes, list):
        yield from implied_ids(nodes)
        for node in nodes:
            if isinstance(node, dict):
                yield from _ids_in(node.get("nodes"))


def _enter(children: list[Any], entering: list[str]) -> None:
    """Let a group's nodes name what enters it, as they will be told apart from what enters the group around."""
    for child in children:
        if INPUT in (names := inputs_of(child)):
            child["inputs"] = flow_list(
                [one for name in names for one in (entering if name == INPUT else [name])]
            )


def _keep_unread(nodes: Any) -> None:
    """Write other ids out where a place implies a name that is read, which then means another node."""
    read = set(names_read(nodes))
    while (index := _first_implied(nodes, read)) is not None:
        names = implied_ids(nodes)
        nodes[index]["id"] = fresh(names[index], {*names_in(nodes), *names})
        nodes[index].move_to_end("id", last=False)


def _first_implied(nodes: Any, read: set[str]) -> int | None:
    pairs = enumerate(zip(nodes, implied_ids(nodes), strict=True))
    return next((at for at, (node, name) in pairs if "id" not in node and name in read), None)


def _refuse_borrowers(name: str, path: str) -> None:
    raise SpecError(
        Problem(
            path,
            f"the weights of {name!r} are shared as a whole, so its nodes must stay together",
            "a group that no other shares",
            fix="remove share where it names this group, or ungroup that one first",
        )
    )


def _refuse_strays(inner: list[Any], outside: list[Any], path: str) -> None:
    ids = [node["id"] for node in inner[:-1] if "id" in node]
    stray = next((name for name in ids if is_read(outside, name)), None)
    if stray is not None:
        raise SpecError(
            Problem(
                path,
                f"a group hands on its last node only, but a node outside reads {str(stray)!r}, "
                "which would stand inside",
                "nodes of which only the last is read from outside",
                fix="put the node that reads it into the group too",
            )
        )


def _entrance(siblings: Any, index: int, inner: list[Any]) -> Any:
    """Return what the group must read in writing, and let its first node read that; None for the node above."""
    first = inner[0]
    names = inputs_of(first)
    reads = names or ([] if index else [INPUT])
    if reads != [INPUT] and any(INPUT in inputs_of(node) for node in inner):
        # What they call input is what enters the group around, so that must enter this one.
        if not names:
            first["inputs"] = flow_list(read_by(siblings, index))
        return flow_list([INPUT])
    if len(names) != 1:
        return None
    if names[0] in {node.get("id") for node in inner}:
        return flow_list([INPUT]) if index else None
    return first.pop("inputs")


def _keep_ids(inner: list[Any], before: list[str]) -> None:
    """Write ids out where the new group would imply others, and one of those is the name of what is read."""
    read = set(names_read(inner))
    after = implied_ids(inner)
    if any(new != old and new in read for old, new in zip(before, after, strict=True)):
        for node, old in zip(inner, before, strict=True):
            if "id" not in node:
                node["id"] = old
                node.move_to_end("id", last=False)
