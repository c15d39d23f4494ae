"""Fixes for ids, inputs and groups: who is called what, who reads whom, what a group may hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from hybridlab.architecture.fixes.fix import Change, Fix, setting
from hybridlab.architecture.fixes.spot import Entries, Spot, inner, inputs_of, short
from hybridlab.architecture.spec import INPUT, MAX_NODES
from hybridlab.errors import Problem

_QUOTED = re.compile(r"'([^']*)'")


def wiring_fixes(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose other ids, inputs and groups for a problem about them, the likeliest first."""
    said = problem.message
    if said == "too many nodes once repeats are written out":
        yield from _fewer_repeats(spot)
    if not spot.path:
        return
    if not isinstance(spot.node, dict):
        yield from _as_node(spot, entries)
    elif spot.key == "id":
        yield from _another_id(spot)
    elif said.startswith("there is no such node here"):
        yield from _unknown_name(spot, problem)
    elif said.endswith("read each other in a circle"):
        yield from _opened(spot, said)
    elif said == "a group takes one input":
        yield from _joined(spot, entries)
    elif said.endswith("has the wrong number of inputs"):
        yield from _counted(spot, entries)
    elif said.startswith("nobody reads "):
        yield from _read_or_gone(spot, entries)
    elif said.startswith("'inputs' is empty") or (spot.key == "inputs" and "type" in said):
        yield Fix("Read the node above", (setting(spot.path, "inputs", None),))
    elif said.startswith("a node needs either"):
        yield from _one_of_both(spot)
    elif said.startswith("'repeat' and 'tie' belong to groups"):
        yield from _grouped(spot)


def _another_id(spot: Spot) -> Iterator[Fix]:
    """Give a node an id that is free and allowed; who reads the old id goes on reading its other owner."""
    text = re.sub(r"[^\w-]+", "_", str(spot.node.get("id") or spot.node.get("use") or "node"))
    base = (text if text[:1].isalpha() or text[:1] == "_" else f"n_{text}")[:56]
    new = spot.fresh(re.sub(r"_\d+$", "", base) or "node")
    yield Fix(f"Call it {new}", (setting(spot.path, "id", new),))


def _unknown_name(spot: Spot, problem: Problem) -> Iterator[Fix]:
    """Read the node whose name is closest, or leave the name out."""
    written = spot.written_inputs()
    wrong = next((name for name in written if repr(name) == problem.got), None)
    if wrong is None:
        return
    known = [n for n in dict.fromkeys((*spot.names, INPUT, *spot.around)) if n != spot.id]
    for close in difflib.get_close_matches(wrong, known, n=2, cutoff=0.5):
        value = list(dict.fromkeys(close if name == wrong else name for name in written))
        yield Fix(f"Read {close} instead of {short(wrong)}", (setting(spot.path, "inputs", value),))
    rest = [name for name in written if name != wrong]
    title = f"Leave {short(wrong)} out" if rest else f"Read {spot.above}, the node above"
    if not rest and not spot.index:
        title = "Read what enters"
    yield Fix(title, (setting(spot.path, "inputs", rest or None),))


def _opened(spot: Spot, said: str) -> Iterator[Fix]:
    """Take back a line that leads from a later node of a circle to an earlier one."""
    circle = [index for index, name in enumerate(spot.names) if name in _QUOTED.findall(said)]
    before = spot.names[circle[0] - 1] if circle and circle[0] else INPUT
    for index in circle:
        for path, node, own in inner(spot.siblings[index], spot.at(index)):
            wanted = inputs_of(node)
            for name in wanted:
                source = spot.names.index(name) if name in spot.names else -1
                if source < index or source not in circle:
                    continue
                rest = [each for each in wanted if each != name]
                reader = own or spot.names[index]
                change = setting(path, "inputs", rest or None)
                yield Fix(f"Let {short(reader)} no longer read {short(name)}", (change,))
                if before not in rest:
                    value = [before if each == name else each for each in wanted]
                    yield Fix(
                        f"Let {short(reader)} read {short(before)} instead of {short(name)}",
                        (setting(path, "inputs", value),),
                    )


def _joined(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Put a join before a node that takes one input, or let it read the first only."""
    names = list(dict.fromkeys(spot.reads()))
    for entry in joins(entries)[:2] if len(names) > 1 else ():
        use = str(entry["name"])
        node = {"id": spot.fresh(use), "use": use, "inputs": names}
        after = spot.at(spot.index + 1)
        insert: Change = {"do": "insert", "at": spot.path, "node": node}
        title = f"Join them before it with {entry['title']}"
        yield Fix(title, (insert, setting(after, "inputs", None)))
    yield Fix(f"Read {short(names[0])} only", (setting(spot.path, "inputs", names[:1]),))


def _counted(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Give a node as many inputs as it takes."""
    entry = entries.get(str(spot.node.get("use")))
    if entry is None:
        return
    names, least, most = spot.reads(), entry["min_inputs"], entry["max_inputs"]
    if len(names) < least:
        known = [*reversed(spot.names[: spot.index]), INPUT, *spot.around]
        more = [name for name in dict.fromkeys(known) if name not in names and name != spot.id]
        if entry["kind"] == "merge":
            yield Fix(f"Remove {spot.id}, which has nothing to join", (_gone(spot.path),))
        if len(more) >= least - len(names):
            added = more[: least - len(names)]
            value = [*reversed(added), *names]
            words = " and ".join(map(short, added))
            yield Fix(f"Let it read {words} too", (setting(spot.path, "inputs", value),))
    elif most == 1:
        yield from _joined(spot, entries)
    elif most is not None and len(names) > most:
        change = setting(spot.path, "inputs", names[:most])
        yield Fix(f"Read the first {most} only", (change,))


def _read_or_gone(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Let the next join read a node that nobody reads, or remove it."""
    for index in range(spot.index + 1, len(spot.siblings)):
        later = spot.siblings[index]
        entry = entries.get(str(later.get("use"))) if isinstance(later, dict) else None
        if entry is not None and entry["kind"] == "merge" and entry["max_inputs"] is None:
            value = [*(inputs_of(later) or [spot.names[index - 1]]), spot.id]
            change = setting(spot.at(index), "inputs", value)
            yield Fix(f"Let {spot.names[index]} read {spot.id} too", (change,))
            break
    yield Fix(f"Remove {spot.id}", (_gone(spot.path),))


def _one_of_both(spot: Spot) -> Iterator[Fix]:
    """Decide between a component and a group, or remove what is neither."""
    holds = bool(spot.node.get("nodes"))
    if spot.node.get("use") and holds:
        yield Fix("Keep the group", (setting(spot.path, "use", None),))
        yield Fix(f"Keep {short(spot.node['use'])}", (setting(spot.path, "nodes", None),))
    else:
        what = "the empty group" if "nodes" in spot.node else "the empty node"
        yield Fix(f"Remove {what}", (_gone(spot.path),))


def _grouped(spot: Spot) -> Iterator[Fix]:
    """Put a node that is to repeat into a group, or let it run once."""
    times, tie = spot.node.get("repeat"), spot.node.get("tie") is True
    bare = tuple(setting(spot.path, key, None) for key in ("repeat", "tie") if key in spot.node)
    if isinstance(times, int) and len(spot.written_inputs()) < 2:
        wrap: Change = {"do": "wrap", "path": spot.path, "count": 1, "repeat": times}
        shared = (setting(spot.path, "tie", True),) if tie else ()
        yield Fix(f"Wrap it in a group that repeats {times} times", (*bare, wrap, *shared))
    yield Fix("Let it run once", bare)


def _as_node(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Write a bare word in a list of nodes as the component it names, or remove what is no node."""
    if isinstance(spot.node, str):
        for close in difflib.get_close_matches(spot.node, list(entries), n=1, cutoff=0.6):
            insert: Change = {"do": "insert", "at": spot.path, "node": {"use": close}}
            yield Fix(f"Write it as use: {close}", (insert, _gone(spot.at(spot.index + 1))))
    yield Fix("Remove it", (_gone(spot.path),))


def _fewer_repeats(spot: Spot) -> Iterator[Fix]:
    """Lower the repeat that multiplies most, as far as needed."""
    nodes = spot.content.get("nodes")
    siblings: list[Any] = nodes if isinstance(nodes, list) else []
    counts = [_expanded(node) for node in siblings]
    for index in sorted(range(len(siblings)), key=lambda each: -counts[each]):
        node = siblings[index]
        times = node.get("repeat") if isinstance(node, dict) else None
        if not isinstance(times, int) or times < 2:
            continue
        room = MAX_NODES - (sum(counts) - counts[index])
        fitting = room // max(1, counts[index] // times)
        if 1 <= fitting < times:
            change = setting(f"nodes[{index}]", "repeat", fitting)
            yield Fix(f"Lower the repeat of nodes[{index}] to {fitting}", (change,))


def _expanded(node: Any) -> int:
    inside = node.get("nodes") if isinstance(node, dict) else None
    if not isinstance(inside, list):
        return 1
    times = node.get("repeat", 1)
    return (times if isinstance(times, int) else 1) * sum(map(_expanded, inside))


def joins(entries: Entries) -> list[Any]:
    """Return the components that join any number of branches, the plainest first."""
    found = [
        entry
        for entry in entries.values()
        if entry["kind"] == "merge" and entry["max_inputs"] is None
    ]
    return sorted(found, key=lambda entry: (entry["name"] != "sum", entry["name"] != "gated_sum"))


def _gone(path: str) -> Change:
    return {"do": "remove", "path": path}
