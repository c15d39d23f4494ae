"""Three-way merges: nothing is lost, what does not meet merges by itself, and what meets is told in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.architecture import edit, library
from hybridlab.architecture.compare import compare
from hybridlab.architecture.document import loads
from hybridlab.architecture.merge import Merged, merge
from hybridlab.architecture.spec import INPUT
from hybridlab.errors import SpecError

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


def test_a_comment_that_only_the_other_wrote_is_taken() -> None:
    new = JAMBA + "# for later\n"
    assert merge(JAMBA, JAMBA, new).text == new
    assert merge(JAMBA, new, JAMBA).text == new


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


def test_hundreds_of_nodes_are_merged_in_moments() -> None:
    nodes = "".join(f"  - {{use: mamba2, state: {i % 7 + 1}}}\n" for i in range(300))
    base = f"name: many\nnodes:\n{nodes}"
    merged = three(base, setting("nodes[5]", "state", 99), setting("nodes[205]", "state", 77))
    assert not merged.conflicts
    assert compare(loads(base), merged.architecture).summary() == "state 6 → 99, state 3 → 77"


def test_two_of_my_names_that_come_to_stand_beside_each_other_are_told_apart() -> None:
    """Mine has one inside a group and one outside; the other takes the group away and moves what was in it."""
    base = """\
name: start
width: 64
nodes:
  - id: outer
    nodes:
      - id: stage
        nodes:
          - {use: attention}
  - {use: swiglu}
  - {use: gru, inputs: [outer]}
"""
    mine = base.replace(
        "  - {use: gru, inputs: [outer]}\n",
        "  - id: stage\n    inputs: [outer]\n    nodes:\n      - {use: gru}\n",
    )
    theirs = """\
name: start
width: 64
nodes:
  - id: stage
    nodes:
      - {use: attention, heads: 2}
  - {use: swiglu}
  - {use: gru, inputs: [stage]}
"""
    merged = merge(base, mine, theirs)
    names = [node.id for node in merged.architecture.nodes]
    assert len(names) == len(set(names)), merged.text
