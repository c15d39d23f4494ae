"""Fixes for components: a name spelt right, a component between two kinds, one that takes what comes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hybridlab.architecture.fixes.fix import Change, Fix, setting
from hybridlab.architecture.fixes.limits import parameters
from hybridlab.architecture.fixes.spot import Entries, Spot, short
from hybridlab.architecture.spec import NODE_KEYS, Architecture
from hybridlab.errors import Problem

_CANNOT_READ = re.compile(r"\S+ cannot read '(.*)'", re.DOTALL)


def kind_fixes(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose other components, or one in between, for a problem about what a node is or reads."""
    if problem.path == "norm":
        yield from _another_norm(spot, entries)
    if not spot.path or not isinstance(spot.node, dict):
        return
    if problem.message == "unknown component":
        yield from _known_component(spot, entries)
    elif match := _CANNOT_READ.fullmatch(problem.message):
        yield from _readable(spot, match[1], problem.got.partition(" ")[0], entries)
    elif problem.message.startswith("the branches of a merge"):
        yield from _other_merge(spot, entries)
    elif problem.message == "tied repeats must give what they take":
        yield Fix("Give each repeat its own weights", (setting(spot.path, "tie", None),))


def _another_norm(spot: Spot, entries: Entries) -> Iterator[Fix]:
    norms = [name for name, entry in entries.items() if entry["kind"] == "norm"]
    close = difflib.get_close_matches(str(spot.content.get("norm")), norms, n=2, cutoff=0.4)
    default = str(Architecture.model_fields["norm"].default)
    for name in dict.fromkeys([*close, default]):
        yield Fix(f"Set norm to {name}", (setting("", "norm", name),))


def _known_component(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Take the component whose name or title is closest; parameters that fit it stay."""
    wanted = str(spot.node.get("use")).lower()
    words = {str(entry["title"]).lower(): name for name, entry in entries.items()}
    words |= {name: name for name in entries}
    close = difflib.get_close_matches(wanted, list(words), n=3, cutoff=0.55)
    inside = [name for name in entries if len(name) > 2 and name in wanted]
    for name in list(dict.fromkeys([*(words[word] for word in close), *inside]))[:2]:
        yield Fix(f"Take {name}", (_taken(spot, name, entries),))
    yield Fix(f"Remove {short(spot.id)}", ({"do": "remove", "path": spot.path},))


def _taken(spot: Spot, name: str, entries: Entries) -> Change:
    """Return the change that puts another component in a node's place."""
    limits = parameters(entries, name)
    keep = [
        key
        for key, value in spot.node.items()
        if key not in NODE_KEYS and key in limits and limits[key].fits(value)
    ]
    give = {
        key: limit.filler() for key, limit in limits.items() if limit.required and key not in keep
    }
    return {"do": "replace", "path": spot.path, "use": name, "keep": keep, "give": give}


def _readable(spot: Spot, name: str, given: str, entries: Entries) -> Iterator[Fix]:
    """Make what a node reads something that it can read."""
    reader = entries.get(str(spot.node.get("use")))
    if reader is None:
        return
    remove: Change = {"do": "remove", "path": spot.path}
    if given == "logits":
        yield from _head_last(spot, name)
        return
    if reader["kind"] == "input":
        readers = [entry for entry in _inputs(entries, given) if entry is not reader]
        for entry in readers:
            taken = _taken(spot, str(entry["name"]), entries)
            yield Fix(f"Put {entry['title']} in its place", (taken,))
        yield Fix(f"Remove {short(spot.id)}", (remove,))
        if spot.index:
            first: Change = {"do": "move", "path": spot.path, "by": -spot.index}
            bare = (setting(spot.path, "inputs", None),) if "inputs" in spot.node else ()
            yield Fix("Move it to the start", (*bare, first))
        return
    for entry in _inputs(entries, given):
        yield Fix(f"Insert {entry['title']} before it", _bridge(spot, name, str(entry["name"])))
    if reader["kind"] == "head":
        last: Change = {"do": "move", "path": spot.path, "by": len(spot.siblings)}
        yield Fix("Move it to the end", (last,))


def _head_last(spot: Spot, name: str) -> Iterator[Fix]:
    """Let a head that others read stand at the end, or go."""
    if name not in spot.names:
        return
    path = spot.at(spot.names.index(name))
    last: Change = {"do": "move", "path": path, "by": len(spot.siblings)}
    yield Fix(f"Move {short(name)} to the end", (last,))
    yield Fix(f"Remove {short(name)}", ({"do": "remove", "path": path},))


def _inputs(entries: Entries, given: str) -> list[Mapping[str, Any]]:
    """Return the inputs of the palette that read a kind and can be built without a value of one's own."""
    return [
        entry
        for entry in entries.values()
        if entry["kind"] == "input"
        and given in entry["accepts"]
        and not entry["params_schema"].get("required")
    ]


def _bridge(spot: Spot, name: str, use: str) -> tuple[Change, ...]:
    """Return the changes that put a component between a node and one that it reads."""
    written = spot.written_inputs()
    if not written:
        return ({"do": "insert", "at": spot.path, "node": {"use": use}},)
    after = spot.at(spot.index + 1)
    new = spot.fresh(use)
    insert: Change = {
        "do": "insert",
        "at": spot.path,
        "node": {"id": new, "use": use, "inputs": [name]},
    }
    value = [new if each == name else each for each in written]
    return insert, setting(after, "inputs", value)


def _other_merge(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Merge branches of different width side by side, or leave the odd one out."""
    if "concat" in entries and spot.node.get("use") != "concat":
        yield Fix("Join them with Concatenate", (_taken(spot, "concat", entries),))
    written = spot.written_inputs()
    if len(written) > 2 and spot.position < len(written):
        rest = [each for index, each in enumerate(written) if index != spot.position]
        change = setting(spot.path, "inputs", rest)
        yield Fix(f"Leave {short(written[spot.position])} out", (change,))
