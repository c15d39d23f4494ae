"""The canvas's edits reach the text once, in order, and never an outdated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_edits import CASES, run, starts, written

from hybridlab.architecture import document, library
from hybridlab.architecture.edit import EMPTY
from hybridlab.ui.canvas.changes import insert
from hybridlab.ui.canvas.desk import CHANGED, NOT_UNDERSTOOD, Desk
from hybridlab.ui.canvas.message import costs
from hybridlab.ui.canvas.places import load_places, save_places
from hybridlab.ui.canvas.tree import id_at, readable, tree
from hybridlab.ui.state import Design

TEXT = """\
# what a person wrote
name: test
width: 64
nodes:
  - {use: attention, heads: 4}  # why four
  - {use: swiglu}
"""


def edit(number: int, *changes: dict[str, Any], base: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "base": base,
        "changes": list(changes),
        "guards": [],
        "select": None,
    } | more


def sent(*edits: dict[str, Any], client: str = "a") -> dict[str, Any]:
    return {"client": client, "edits": list(edits), "again": 0}


def desk(text: str = TEXT) -> Desk:
    return Desk(Design(text, "a test"))


ADD = {"do": "insert", "at": "nodes[1]", "node": {"use": "mamba2"}}
DROP = {"do": "remove", "path": "nodes[0]"}


def uses(at: Desk) -> list[str]:
    return [node["use"] for node in readable(at.design.text)]


def test_an_edit_sent_twice_is_made_once() -> None:
    at = desk()
    at.take(sent(edit(1, ADD)))
    at.take(sent(edit(1, ADD), edit(2, ADD)))
    assert uses(at) == ["attention", "mamba2", "mamba2", "swiglu"]
    assert at.acknowledged == {"a": 2}


def test_a_bulk_edit_is_one_step_and_undo_gives_the_text_back_to_the_byte() -> None:
    at = desk()
    at.take(sent(edit(1, DROP, DROP, ADD | {"at": "nodes[0]"}, select="nodes[0]")))
    assert uses(at) == ["mamba2"]
    assert at.design.selected == "nodes[0]"
    at.take(sent(edit(2, {"do": "undo"}, base=1)))
    assert at.design.text == TEXT
    at.take(sent(edit(3, {"do": "redo"}, base=2)))
    assert uses(at) == ["mamba2"]


def test_an_edit_of_an_outdated_revision_is_refused_where_its_node_is_another_now() -> None:
    at = desk()
    at.take(sent(edit(1, DROP), client="first tab"))
    guards = [{"path": "nodes[0]", "id": "attention"}]
    at.take(sent(edit(1, DROP, guards=guards), client="second tab"))
    assert uses(at) == ["swiglu"]
    assert at.refused == [{"client": "second tab", "id": 1, "sentence": CHANGED + "."}]


def test_two_canvases_on_one_design_lose_no_change() -> None:
    at = desk()
    at.take(sent(edit(1, ADD), client="first tab"))
    change = {"do": "set", "path": "nodes[0]", "key": "heads", "value": 2}
    guards = [{"path": "nodes[0]", "id": "attention"}]
    at.take(sent(edit(1, change, guards=guards), client="second tab"))
    assert uses(at) == ["attention", "mamba2", "swiglu"]
    assert "heads: 2" in at.design.text
    assert not at.refused


def test_comments_stay() -> None:
    at = desk()
    at.take(sent(edit(1, ADD), edit(2, {"do": "duplicate", "path": "nodes[2]"}, base=1)))
    assert "# what a person wrote" in at.design.text
    assert "# why four" in at.design.text


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {"client": "a"},
        {"client": "a" * 100, "edits": []},
        {"client": "a", "edits": [[]], "again": 0},
        {"client": "a", "edits": [{"id": "x"}], "again": 0},
    ],
)
def test_a_message_that_is_none_changes_nothing(bad: object) -> None:
    at = desk()
    at.take(bad)
    assert at.design.text == TEXT
    assert at.acknowledged == {}


@pytest.mark.parametrize(
    "change",
    [
        {"do": "explode"},
        {"do": "remove", "path": "nodes[0]; rm"},
        {"do": "remove", "path": "nodes[99]"},
        {"do": "set", "path": "nodes[0]", "key": "nodes", "value": []},
        {"do": "set", "path": "nodes[0].nodes[3]", "key": "x", "value": 1},
        {"do": "paste", "at": "nodes[0]", "yaml": "just words"},
        {"do": "paste", "at": "nodes[0]", "yaml": "- {use: a}\n- 3"},
        {"do": "paste", "at": "nodes[0]", "yaml": "- [" * 200},
        {"do": "insert", "at": "nodes[0]", "node": {"use": "attention", "nodes": 7}},
        {"do": "unwrap", "path": "nodes[0]"},
    ],
)
def test_an_edit_that_cannot_be_made_is_told_and_the_text_stays(change: dict[str, Any]) -> None:
    at = desk()
    at.take(sent(edit(1, change)))
    assert at.design.text == TEXT
    assert at.acknowledged == {"a": 1}
    assert len(at.refused) == 1
    assert at.refused[0]["sentence"].strip()
    if change["do"] == "explode":
        assert at.refused[0]["sentence"] == NOT_UNDERSTOOD


def test_pasting_numbers_ids_on_and_its_inputs_follow() -> None:
    text = insert(TEXT, "nodes[0]", {"id": "x", "use": "mamba2"})
    at = desk(text)
    yaml = "- {id: x, use: attention}\n- {use: swiglu, inputs: [x]}\n"
    at.take(sent(edit(1, {"do": "paste", "at": "nodes[1]", "yaml": yaml})))
    nodes = readable(at.design.text)
    assert [(node["id"], node["inputs"]) for node in nodes[:3]] == [
        ("x", None),
        ("x_2", None),
        ("swiglu", ["x_2"]),
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_random_edits_give_a_text_that_says_what_the_canvas_shows(seed: int) -> None:
    start, changes, end = run(seed, 4)
    at = desk(start)
    for number, change in enumerate(changes, 1):
        at.take(sent(edit(number, change, base=at.design.revision)))
        nodes, drawn = tree(at.design.text)
        architecture, _ = document.parse(at.design.text)
        assert drawn
        if architecture is not None:
            shown = [id_at(at.design.text, path) for path, _, _ in architecture.walk()]
            assert shown == [node.id for _, _, node in architecture.walk()]
            assert len(nodes) == len(architecture.nodes)
    assert not at.refused
    assert at.design.text == end
    for _ in range(len(at.design.past)):
        at.design.undo()
    assert at.design.text == start


def test_every_preset_is_drawn_and_stays_the_same_text() -> None:
    texts = starts()
    assert len(texts) > 5
    for text in texts:
        at = desk(text)
        assert tree(text)[1]
        at.take(sent(edit(1, ADD | {"at": "nodes[0]"}), edit(2, {"do": "undo"}, base=1)))
        assert at.design.text == text


def test_the_front_ends_cases_are_what_python_makes_now() -> None:
    assert CASES.read_text(encoding="utf-8") == written(), "run tests/ui/canvas/random_edits.py"


def test_a_text_that_is_wrong_is_still_drawn_as_far_as_it_can_be() -> None:
    assert tree(EMPTY) == ((), True)
    assert tree("nodes: [{use: x, repeat: many, inputs: []}]")[0][0]["repeat"] == 1
    for bad in ("nodes: [1]", "nodes: 3", "[", "nodes: [{use: x, nodes: 4}]"):
        assert tree(bad) == ((), False)


def test_selection_is_wished_only_when_somebody_else_chose() -> None:
    at = desk()
    opened = at.wish()
    assert opened["path"] is None
    at.take_selection({"path": "nodes[1]", "at": 1})
    first = at.wish()
    assert first == {"path": "nodes[1]", "stamp": opened["stamp"]}
    assert at.wish() == first
    at.design.selected = "nodes[0]"
    second = at.wish()
    assert second["path"] == "nodes[0]" and second["stamp"] > first["stamp"]
    at.take_selection("nonsense")
    assert at.design.selected is None


def test_places_are_kept_beside_a_saved_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    at = desk()
    assert not at.take_places({"seed": "another", "at": {}})
    good = {"attention": [1, 2.5], "bad": ["x", 1], "worse": [1e9, 0], "short": [1]}
    assert at.take_places({"seed": at.seed, "at": good})
    assert at.places == {"attention": (1.0, 2.5)}
    save_places("mine", at.places)
    assert load_places("mine") == at.places
    assert library.designs() == []
    save_places("mine", {})
    assert load_places("mine") == {}


def test_costs_are_summed_over_repeats_and_groups_and_shared_weights_count_once() -> None:
    nodes = readable(
        "nodes: [{id: g, repeat: 3, tie: true, nodes: [{use: attention}, {use: swiglu}]}, {use: mamba2}]"
    )
    item = {"params": 10, "flops": 100, "activation_bytes": 5, "ms": 2.0}
    listed = [item | {"path": path} for path in ("g.0.attention", "g.0.swiglu", "mamba2")]
    found = costs(listed, nodes)
    assert found["g.attention"] == {"params": 10, "flops": 300, "activation_bytes": 15, "ms": 6}
    assert found["g"] == {"params": 20, "flops": 600, "activation_bytes": 30, "ms": 12}
    assert found["mamba2"]["ms"] == 2


def test_random_changes_cover_every_kind() -> None:
    kinds = {change["do"] for seed in range(60) for change in run(seed)[1]}
    assert kinds == {
        *("insert", "remove", "replace", "set", "rename", "wrap", "unwrap", "move", "duplicate"),
    }


def test_marks_of_a_search_are_taken_where_they_are_of_this_design() -> None:
    desk = Desk(Design("", "test"))
    wanted = {"stage.mamba2": True, "stage.moe": False, "odd": 1, 5: True}
    assert desk.marks({"seed": desk.seed, "wanted": wanted}) == {
        "stage.mamba2": True,
        "stage.moe": False,
    }
    for odd in (None, [], {"seed": "other", "wanted": wanted}, {"seed": desk.seed, "wanted": 3}):
        assert desk.marks(odd) == {}
    assert desk.design.past == [], "the design stays as it is"
