"""Three-way merges of random designs after random edits: what only one side did is taken, and nothing is lost."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.architecture import edit
from hybridlab.architecture.document import loads
from hybridlab.architecture.merge import merge
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.errors import HybridLabError

USES = ("attention", "mamba2", "gru", "swiglu", "moe")
KEYS = {"heads": (1, 2, 8), "state": (8, 32), "colour": ("red", "blue")}
Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["set", "remove", "add", "move", "wrap", "unwrap", "rename", "replace", "read", "width"]
        ),
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    max_size=6,
)
PROPERTY = settings(max_examples=100, deadline=None)
FIRST = """\
name: start
width: 64
nodes:
  - {use: gru}
  - id: stage
    repeat: 2
    nodes:
      - {id: attn, use: attention, heads: 4}
      - {id: ssm, use: mamba2, inputs: [input]}
      - {use: sum, inputs: [attn, ssm]}
  - {use: swiglu}
  - {use: gru, inputs: [stage]}
"""


def made(text: str, done: list[Step], tag: str = "") -> str:
    """Return a text after random edits; those that cannot be made are left out."""
    for number, step in enumerate(done):
        with contextlib.suppress(HybridLabError):
            new = _edit(text, *step, f"{tag}{number}")
            if not broken(loads(new)):
                text = new
    return text


def _edit(text: str, what: str, where: int, how: int, tag: str) -> str:
    paths = [path for path, _, _ in loads(text).walk()]
    path = paths[where % len(paths)]
    key = list(KEYS)[how % len(KEYS)]
    if what == "set":
        node = edit.read_field(text, path)
        if "nodes" in node:
            return edit.set_parameter(text, path, "repeat", 2 + how % 4)
        return edit.set_parameter(text, path, key, KEYS[key][how % len(KEYS[key])])
    if what == "remove":
        return edit.remove(text, path)
    if what == "add":
        node = {"use": USES[how % len(USES)], "note": f"new {tag}"}
        return edit.add(text, node | ({"id": f"n{tag}"} if how % 2 else {}), after=path)
    if what == "move":
        return edit.move(text, path, how % 5 - 2)
    if what == "wrap":
        return edit.wrap(text, path, repeat=2, count=1 + how % 2)
    if what == "unwrap":
        return edit.unwrap(text, path)
    if what == "rename":
        return edit.rename(text, path, f"r{tag}")
    if what == "replace":
        return edit.replace(text, path, USES[how % len(USES)], [])
    if what == "read":
        head = path.rpartition("nodes[")[0]
        around = [node.id for p, _, node in loads(text).walk() if p.rpartition("nodes[")[0] == head]
        own = path.removeprefix(head)
        before = around[: int(own[6:-1])] or [INPUT]
        return edit.set_parameter(text, path, "inputs", [before[how % len(before)]])
    return edit.set_field(text, "width", 8 * (1 + how))


def said(architecture: Architecture) -> Counter[str]:
    """Return what the nodes say, without names and places."""
    return Counter(
        f"{node.use} {sorted(node.params.items())} {node.repeat}"
        for _, _, node in architecture.walk()
    )


def new_in(text: str) -> set[str]:
    notes = [node.params.get("note") for _, _, node in loads(text).walk()]
    return {note for note in notes if note}


def broken(architecture: Architecture) -> list[str]:
    """Return the names in ``inputs`` that mean no node, and those that two nodes beside each other have."""
    bad: list[str] = []

    def look(nodes: tuple[Node, ...], around: set[str]) -> None:
        known = around | {node.id for node in nodes}
        bad.extend(name for name, count in Counter(n.id for n in nodes).items() if count > 1)
        for node in nodes:
            bad.extend(name for name in node.inputs or () if name not in known | {INPUT})
            look(node.nodes, known)

    look(architecture.nodes, set())
    return bad


@PROPERTY
@given(steps, steps)
def test_what_only_one_side_changed_is_just_that(first, second) -> None:
    base = made(FIRST, first, "b")
    new = made(base, second, "m")
    for merged in (merge(base, new, base), merge(base, base, new), merge(base, new, new)):
        assert not merged.conflicts
        assert merged.architecture == loads(new)
        assert merged.text == new


@PROPERTY
@given(steps, steps, steps)
def test_nothing_new_is_lost_and_the_text_says_what_was_merged(first, second, third) -> None:
    base = made(FIRST, first, "b")
    mine, theirs = made(base, second, "m"), made(base, third, "t")
    merged = merge(base, mine, theirs)
    assert loads(merged.text) == merged.architecture
    assert not broken(merged.architecture), merged.text
    kept, old = new_in(merged.text), new_in(base)
    assert kept >= new_in(mine) - old
    if not merged.conflicts:
        assert kept >= new_in(theirs) - old
        assert kept & old == new_in(mine) & new_in(theirs) & old
    else:
        other = merge(
            base, mine, theirs, dict.fromkeys((c.key for c in merged.conflicts), "theirs")
        )
        assert loads(other.text) == other.architecture
        assert not broken(other.architecture), other.text
        assert new_in(other.text) >= new_in(theirs) - old


@PROPERTY
@given(steps, steps, steps)
def test_it_does_not_matter_who_is_called_mine(first, second, third) -> None:
    base = made(FIRST, first, "b")
    mine, theirs = made(base, second, "m"), made(base, third, "t")
    one, other = merge(base, mine, theirs), merge(base, theirs, mine)
    assert bool(one.conflicts) == bool(other.conflicts)
    if not one.conflicts:
        assert said(one.architecture) == said(other.architecture)


@PROPERTY
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2), st.integers(0, 2))
def test_edits_of_different_nodes_never_meet(one, other, how, also) -> None:
    paths = [path for path, _, node in loads(FIRST).walk() if node.use]
    mine, theirs = paths[one % len(paths)], paths[other % len(paths)]
    if mine == theirs:
        return
    change, there = (mine, *_value(how)), (theirs, *_value(also))
    one_side, other_side = (edit.set_parameter(FIRST, *done) for done in (change, there))
    merged = merge(FIRST, one_side, other_side)
    assert not merged.conflicts
    assert merged.architecture == loads(edit.set_parameter(one_side, *there))


def _value(how: int) -> tuple[str, Any]:
    key = list(KEYS)[how]
    return key, KEYS[key][0]
