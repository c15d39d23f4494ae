"""Three-way merges: nothing is lost, what does not meet merges by itself, and what meets is told in a sentence."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.architecture import edit, library
from hybridlab.architecture.compare import compare
from hybridlab.architecture.document import loads
from hybridlab.architecture.merge import Merged, merge
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.errors import HybridLabError, SpecError

JAMBA = library.find("jamba_mini").read_text(encoding="utf-8")
MIXER, ATTENTION, MOE = (f"nodes[0].nodes[{place}]" for place in (0, 2, 3))
FORK = """\
name: fork
width: 64
nodes:
  - {id: a, use: attention, heads: 4}
  - {id: b, use: mamba2, inputs: [input]}
  - {id: join, use: sum, inputs: [a, b]}
"""
Change = Callable[[str], str]


def setting(path: str, key: str, value: Any) -> Change:
    return lambda text: edit.set_parameter(text, path, key, value)


def three(base: str, mine: Change, theirs: Change, **choices: Any) -> Merged:
    return merge(base, mine(base), theirs(base), choices.get("choices"))


def ids(merged: Merged) -> list[str]:
    return [names for _, names, _ in merged.architecture.walk()]


# What does not meet


def test_changes_of_different_nodes_merge_by_themselves_and_comments_stay() -> None:
    base = JAMBA.replace("      - {use: swiglu}\n", "      # wide enough\n      - {use: swiglu}\n")
    merged = three(base, setting(ATTENTION, "heads", 8), setting(MIXER, "state", 32))
    assert not merged.conflicts
    assert not merged.notes
    assert merged.text == base.replace("heads: 4", "heads: 8").replace("state: 16", "state: 32")


def test_different_parameters_of_one_node_merge_by_themselves() -> None:
    merged = three(JAMBA, setting(ATTENTION, "heads", 8), setting(ATTENTION, "kv_heads", 4))
    assert not merged.conflicts
    assert "{use: attention, heads: 8, kv_heads: 4}" in merged.text


def test_a_change_inside_a_group_that_the_other_wrapped_renamed_or_repeats() -> None:
    def theirs(text: str) -> str:
        text = edit.wrap(text, "nodes[0]", repeat=3, group_id="all")
        return edit.set_parameter(text, "nodes[0].nodes[0]", "repeat", 5)

    merged = three(JAMBA, setting(ATTENTION, "heads", 8), theirs)
    assert not merged.conflicts
    (outer,) = merged.architecture.nodes
    assert (outer.id, outer.repeat, outer.nodes[0].repeat) == ("all", 3, 5)
    assert outer.nodes[0].nodes[2].params["heads"] == 8


def test_both_wrap_the_same_node_alike_and_there_is_one_group() -> None:
    def wrapped(text: str) -> str:
        return edit.wrap(text, "nodes[0]", repeat=2)

    def theirs(text: str) -> str:
        return edit.set_parameter(wrapped(text), "nodes[0].nodes[0]", "heads", 2)

    merged = three(FORK, wrapped, theirs)
    assert not merged.conflicts
    assert merged.architecture == loads(theirs(FORK))
    other = three(FORK, wrapped, lambda text: edit.wrap(text, "nodes[0]", repeat=3))
    assert [conflict.sentence for conflict in other.conflicts] == [
        "stage: you set repeat to 2, the other to 3."
    ]


def test_what_both_add_is_kept_and_the_same_at_one_place_is_one() -> None:
    gru = lambda text: edit.add(text, {"use": "gru"}, after=MIXER)  # noqa: E731
    lstm = lambda text: edit.add(text, {"use": "lstm"}, after=MIXER)  # noqa: E731
    merged = three(JAMBA, gru, lstm)
    assert not merged.conflicts
    uses = [node.use for node in merged.architecture.nodes[0].nodes]
    assert uses == ["mamba2", "gru", "lstm", "swiglu", "attention", "moe"]
    once = three(JAMBA, gru, gru)
    assert once.architecture == loads(gru(JAMBA))
    elsewhere = three(JAMBA, gru, lambda text: edit.add(text, {"use": "gru"}, after=MOE))
    assert Counter(node.use for node in elsewhere.architecture.nodes[0].nodes)["gru"] == 2


def test_a_name_that_both_give_to_new_nodes_is_numbered_and_told() -> None:
    def mine(text: str) -> str:
        return edit.add(text, {"id": "extra", "use": "gru"}, after="nodes[0]")

    def theirs(text: str) -> str:
        text = edit.add(text, {"id": "extra", "use": "lstm"}, after="nodes[1]")
        return edit.add(text, {"id": "last", "use": "swiglu", "inputs": ["extra"]})

    merged = three(FORK, mine, theirs)
    nodes = {node.id: node for node in merged.architecture.nodes}
    assert (nodes["extra"].use, nodes["extra_2"].use) == ("gru", "lstm")
    assert nodes["last"].inputs == ("extra_2",)
    assert merged.notes == ("The name extra is taken, so the other's node is called extra_2.",)


def test_readers_follow_a_node_that_the_other_renamed_wrapped_or_removed() -> None:
    def reads_b(text: str) -> str:
        return edit.add(text, {"id": "late", "use": "swiglu", "inputs": ["b"]})

    renamed = three(FORK, reads_b, lambda text: edit.rename(text, "nodes[1]", "ssm"))
    assert renamed.architecture.nodes[-1].inputs == ("ssm",)
    wrapped = three(FORK, reads_b, lambda text: edit.wrap(text, "nodes[1]", group_id="g"))
    assert wrapped.architecture.nodes[-1].inputs == ("g",)
    removed = three(FORK, reads_b, lambda text: edit.remove(text, "nodes[1]"))
    assert removed.architecture.nodes[-1].inputs == (INPUT,)
    assert removed.notes == ("late read b, which is gone; it reads what that read.",)
    assert not (renamed.conflicts or wrapped.conflicts or removed.conflicts)


def test_a_new_node_does_not_come_between_a_reader_and_what_it_reads() -> None:
    base = "name: x\nnodes:\n  - {id: a, use: gru}\n  - {id: g, nodes: [{use: swiglu}]}\n"
    merged = three(
        base,
        lambda text: edit.add(text, {"use": "sum", "inputs": ["a", INPUT]}, into="nodes[1]"),
        lambda text: edit.add(text, {"id": "a", "use": "lstm"}, into="nodes[1]"),
    )
    (_, group) = merged.architecture.nodes
    assert [node.id for node in group.nodes] == ["swiglu", "sum", "a_2"]
    assert group.nodes[1].inputs == ("a", INPUT)


def test_a_group_taken_apart_gives_its_nodes_to_where_it_stood() -> None:
    merged = three(
        JAMBA, lambda text: edit.unwrap(text, "nodes[0]"), setting(ATTENTION, "heads", 8)
    )
    assert not merged.conflicts
    assert [node.use for node in merged.architecture.nodes] == [
        "mamba2",
        "swiglu",
        "attention",
        "moe",
    ]
    assert "heads: 8" in merged.text


def test_order_and_addition_go_together() -> None:
    merged = three(
        JAMBA,
        lambda text: edit.move(text, MIXER, 3),
        lambda text: edit.add(text, {"use": "gru"}, after=ATTENTION),
    )
    assert not merged.conflicts
    assert [node.use for node in merged.architecture.nodes[0].nodes] == [
        "swiglu",
        "attention",
        "gru",
        "moe",
        "mamba2",
    ]


# What meets


@pytest.mark.parametrize(
    ("mine", "theirs", "sentence", "of_mine", "of_theirs"),
    [
        (
            setting(ATTENTION, "heads", 8),
            setting(ATTENTION, "heads", 2),
            "stage.attention: you set heads to 8, the other to 2; it was 4.",
            "heads: 8",
            "heads: 2",
        ),
        (
            lambda text: edit.remove(text, ATTENTION),
            setting(ATTENTION, "heads", 2),
            "stage.attention: you removed it, the other changed it: heads 4 → 2.",
            "{use: swiglu}\n      - {use: moe",
            "heads: 2",
        ),
        (
            setting(ATTENTION, "heads", 8),
            lambda text: edit.remove(text, ATTENTION),
            "stage.attention: the other removed it, you changed it: heads 4 → 8.",
            "heads: 8",
            "{use: swiglu}\n      - {use: moe",
        ),
        (
            lambda text: edit.replace(text, MIXER, "gated_linear_attention", []),
            setting(MIXER, "state", 32),
            "stage.gated_linear_attention: you made it gated_linear_attention, the other mamba2 with state 32.",
            "{use: gated_linear_attention}",
            "{use: mamba2, state: 32}",
        ),
        (
            lambda text: edit.set_field(text, "width", 128),
            lambda text: edit.set_field(text, "width", 32),
            "the architecture: you set width to 128, the other to 32; it was 64.",
            "width: 128",
            "width: 32",
        ),
        (
            lambda text: edit.move(text, MIXER, 1),
            lambda text: edit.move(text, MIXER, 2),
            "stage: you and the other put its nodes into different orders.",
            "- {use: swiglu}\n      - {use: mamba2, state: 16}\n",
            "heads: 4, kv_heads: 2}\n      - {use: mamba2, state: 16}\n",
        ),
        (
            lambda text: edit.remove(text, "nodes[0].nodes[3]"),
            lambda text: edit.wrap(text, "nodes[0].nodes[3]"),
            "stage.stage.moe: you removed it, the other changed it: moved into stage.stage.",
            "heads: 4, kv_heads: 2}\n",
            "- id: stage\n        repeat: 2",
        ),
    ],
    ids=["value", "removed", "removed there", "component", "field", "order", "moved"],
)
def test_what_both_changed_is_told_and_chosen(mine, theirs, sentence, of_mine, of_theirs) -> None:
    merged = three(JAMBA, mine, theirs)
    (conflict,) = merged.conflicts
    assert conflict.sentence == sentence
    assert of_mine in merged.text
    chosen = three(JAMBA, mine, theirs, choices={conflict.key: "theirs"})
    assert chosen.conflicts[0].key == conflict.key
    assert of_theirs in chosen.text
    assert three(JAMBA, mine, theirs, choices={conflict.key: "mine"}) == merged


def test_a_removed_group_is_one_conflict_with_all_that_was_done_in_it() -> None:
    base = JAMBA + "  - {use: swiglu}\n"

    def theirs(text: str) -> str:
        text = edit.set_parameter(text, ATTENTION, "heads", 8)
        return edit.add(text, {"use": "gru"}, into="nodes[0]")

    merged = three(base, lambda text: edit.remove(text, "nodes[0]"), theirs)
    (conflict,) = merged.conflicts
    assert conflict.sentence == (
        "stage: you removed it, the other changed it: gru put into it, attention heads 4 → 8."
    )
    assert [node.use for node in merged.architecture.nodes] == ["swiglu"]
    kept = three(
        base, lambda text: edit.remove(text, "nodes[0]"), theirs, choices={conflict.key: "theirs"}
    )
    assert kept.architecture == loads(theirs(base))


def test_a_group_that_was_taken_apart_here_and_repeated_there() -> None:
    apart = lambda text: edit.unwrap(text, "nodes[0]")  # noqa: E731
    merged = three(JAMBA, apart, setting("nodes[0]", "repeat", 5))
    (conflict,) = merged.conflicts
    assert merged.architecture == loads(apart(JAMBA))
    kept = three(JAMBA, apart, setting("nodes[0]", "repeat", 5), choices={conflict.key: "theirs"})
    assert kept.architecture == loads(edit.set_parameter(JAMBA, "nodes[0]", "repeat", 5))


def test_each_removes_what_the_other_keeps() -> None:
    base = "name: x\nnodes:\n  - {id: a, use: gru}\n  - {id: b, use: lstm}\n"
    changes = [lambda text, at=at: edit.remove(text, f"nodes[{at}]") for at in (0, 1)]
    merged = three(base, *changes)
    (conflict,) = merged.conflicts
    assert "each removed what the other one kept" in conflict.sentence
    assert merged.architecture == loads(changes[0](base))
    other = three(base, *changes, choices={conflict.key: "theirs"})
    assert other.architecture == loads(changes[1](base))


@pytest.mark.parametrize("place", range(3))
def test_a_text_that_is_no_architecture_is_refused(place) -> None:
    texts = [JAMBA, JAMBA, JAMBA]
    texts[place] = "nothing"
    with pytest.raises(SpecError):
        merge(*texts)


# Properties, over random designs and random edits

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
    return Counter(f"{node.use} {node.params} {node.repeat}" for _, _, node in architecture.walk())


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
    change = setting(mine, *_value(how))
    there = setting(theirs, *_value(also))
    merged = merge(FIRST, change(FIRST), there(FIRST))
    assert not merged.conflicts
    assert merged.architecture == loads(there(change(FIRST)))


def _value(how: int) -> tuple[str, Any]:
    key = list(KEYS)[how]
    return key, KEYS[key][0]


def test_hundreds_of_nodes_are_merged_in_moments() -> None:
    nodes = "".join(f"  - {{use: mamba2, state: {i % 7 + 1}}}\n" for i in range(300))
    base = f"name: many\nnodes:\n{nodes}"
    merged = three(base, setting("nodes[5]", "state", 99), setting("nodes[205]", "state", 77))
    assert not merged.conflicts
    assert compare(loads(base), merged.architecture).summary() == "state 6 → 99, state 3 → 77"
