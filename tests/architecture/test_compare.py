"""Two architectures compared: what is listed, how it is said, and that nothing is listed where nothing differs."""

from __future__ import annotations

import json

import pytest

from hybridlab.architecture import edit, library
from hybridlab.architecture.compare import Difference, compare, text_difference
from hybridlab.architecture.document import loads

TEXT = library.find("jamba_mini").read_text(encoding="utf-8")
FORK = """\
name: fork
nodes:
  - {id: a, use: attention, heads: 4}
  - {id: b, use: mamba2, inputs: [input]}
  - {id: join, use: sum, inputs: [a, b]}
"""


def changed(text: str, new: str) -> Difference:
    return compare(loads(text), loads(new))


def lines(difference: Difference) -> list[str]:
    return difference.text().splitlines()


@pytest.mark.parametrize("entry", library.presets(), ids=lambda entry: entry.name)
def test_a_preset_does_not_differ_from_itself(entry) -> None:
    architecture = loads(entry.text())
    difference = compare(architecture, loads(entry.text()))
    assert difference.empty
    assert difference.summary() == "no change"
    assert difference.as_dict()["equal"] is True
    assert len(difference.pairs) == sum(1 for _ in architecture.walk())


def test_another_component_in_the_same_place_is_that_node_changed() -> None:
    new = edit.replace(TEXT, "nodes[0].nodes[0]", "gated_linear_attention", [])
    difference = changed(TEXT, new)
    assert lines(difference) == [
        "~ stage.gated_linear_attention: component mamba2 → gated_linear_attention, state 16 → default"
    ]
    assert difference.summary() == "mamba2 → gated_linear_attention"
    (change,) = difference.nodes
    assert (change.what, change.before, change.after) == (
        "changed",
        "nodes[0].nodes[0]",
        "nodes[0].nodes[0]",
    )


def test_a_parameter_tells_its_value_before_and_after() -> None:
    difference = changed(TEXT, edit.set_parameter(TEXT, "nodes[0].nodes[2]", "heads", 8))
    assert lines(difference) == ["~ stage.attention: heads 4 → 8"]
    assert changed(FORK, FORK.replace("heads: 4", "heads: 4.0")).summary() == "heads 4 → 4.0"


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("repeat", 3, "~ stage: repeat 2 → 3"),
        ("tie", True, "~ stage: tie false → true"),
        ("residual", "pre", "~ stage: residual default → pre"),
        ("inputs", ["input"], "~ stage: inputs default → input"),
    ],
)
def test_what_belongs_to_groups_is_told_too(key, value, line) -> None:
    assert lines(changed(TEXT, edit.set_parameter(TEXT, "nodes[0]", key, value))) == [line]


def test_a_node_that_comes_between_is_the_one_that_was_added() -> None:
    new = edit.add(TEXT, {"use": "swiglu"}, after="nodes[0].nodes[1]")
    difference = changed(TEXT, new)
    assert [change.what for change in difference.nodes] == ["added"]
    back = changed(new, TEXT)
    assert [change.what for change in back.nodes] == ["removed"]
    assert (difference.summary(), back.summary()) == ("+1 node", "−1 node")


def test_ids_that_only_follow_from_the_place_are_no_change() -> None:
    new = edit.add(TEXT, {"use": "mamba2", "state": 64}, into="nodes[0]")
    new = edit.move(new, "nodes[0].nodes[4]", -4)
    assert [node.id for node in loads(new).nodes[0].nodes if node.use == "mamba2"] == [
        "mamba2",
        "mamba2_2",
    ]
    assert [change.what for change in changed(TEXT, new).nodes] == ["added"]


def test_a_new_id_is_one_change_and_those_who_read_it_have_none() -> None:
    assert lines(changed(FORK, edit.rename(FORK, "nodes[0]", "first"))) == ["~ first: id a → first"]


def test_who_reads_whom_is_told() -> None:
    new = edit.set_parameter(FORK, "nodes[1]", "inputs", ["a"])
    assert lines(changed(FORK, new)) == ["~ b: inputs input → a"]


def test_nodes_that_change_places_moved() -> None:
    difference = changed(TEXT, edit.move(TEXT, "nodes[0].nodes[0]", 2))
    assert lines(difference) == ["> stage.mamba2: moved"]


def test_wrapping_moves_nodes_into_a_new_group_and_unwrapping_out_of_it() -> None:
    wrapped = edit.wrap(TEXT, "nodes[0].nodes[1]", count=2)
    difference = changed(TEXT, wrapped)
    assert difference.summary() == "+1 group, 2 moved"
    assert "> stage.stage.swiglu: moved from stage.swiglu" in lines(difference)
    assert changed(wrapped, TEXT).summary() == "−1 group, 2 moved"


def test_a_group_with_another_name_is_found_by_what_is_in_it() -> None:
    assert lines(changed(TEXT, TEXT.replace("id: stage", "id: body"))) == [
        "~ body: id stage → body"
    ]


def test_what_is_said_of_the_whole_is_told_and_many_changes_are_counted() -> None:
    new = edit.set_field(TEXT, "width", 128)
    new = edit.set_field(new, "name", "wide")
    for index, key in ((0, "state"), (2, "heads"), (3, "experts")):
        new = edit.set_parameter(new, f"nodes[0].nodes[{index}]", key, 8)
    difference = changed(TEXT, new)
    assert lines(difference)[:2] == ["~ name jamba-mini → wide", "~ width 64 → 128"]
    assert difference.summary() == "state 16 → 8, heads 4 → 8, experts 4 → 8 and 2 more"


def test_two_architectures_that_share_nothing() -> None:
    other = "name: other\nnodes: [{id: g, nodes: [{use: lstm}]}]\n"
    difference = changed(FORK, other)
    whats = [change.what for change in difference.nodes]
    assert whats.count("removed") == 3
    assert whats.count("added") == 2


def test_as_json() -> None:
    difference = changed(TEXT, edit.set_parameter(TEXT, "nodes[0].nodes[2]", "heads", 8))
    told = json.loads(json.dumps(difference.as_dict()))
    assert told["nodes"] == [
        {
            "what": "changed",
            "name": "stage.attention",
            "use": "attention",
            "before": "nodes[0].nodes[2]",
            "after": "nodes[0].nodes[2]",
            "moved": False,
            "changes": [{"key": "heads", "before": 4, "after": 8}],
        }
    ]


def test_texts_are_compared_line_by_line() -> None:
    new = FORK.replace("heads: 4", "heads: 8")
    told = text_difference(FORK, new, "a.yaml", "b.yaml")
    assert told.startswith("--- a.yaml\n+++ b.yaml\n")
    assert (
        "-  - {id: a, use: attention, heads: 4}\n+  - {id: a, use: attention, heads: 8}\n" in told
    )
    assert text_difference(FORK, FORK) == ""


def test_a_thousand_nodes_are_compared_in_moments() -> None:
    def many(state: int) -> str:
        nodes = "".join(f"  - {{use: mamba2, state: {i % 7 + state}}}\n" for i in range(1_000))
        return f"name: many\nnodes:\n  - {{use: attention}}\n{nodes}  - {{use: swiglu}}\n"

    assert not changed(many(1), many(9)).empty


SHARED = """\
name: shared
width: 16
nodes:
  - {id: block, nodes: [{id: mix, use: attention, heads: 2}, {use: swiglu}]}
  - {id: again, share: block, nodes: [{id: mix, use: attention, heads: 2}, {use: swiglu}]}
  - id: outer
    nodes:
      - {id: inner, nodes: [{use: swiglu}, {id: mix, use: attention}]}
      - {use: swiglu, share: inner.swiglu}
  - {id: inner, nodes: [{use: swiglu}, {use: gru}]}
"""


@pytest.mark.parametrize("group", ["nodes[1]", "nodes[2]"])
def test_dissolving_a_group_brings_nothing_new_though_names_and_shares_follow(group: str) -> None:
    """Its nodes are numbered on where their names are taken, and share by paths of their own."""
    found = compare(loads(SHARED), loads(edit.unwrap(SHARED, group)))
    whats = [node.what for node in found.nodes]
    assert whats.count("removed") == 1 and "added" not in whats
