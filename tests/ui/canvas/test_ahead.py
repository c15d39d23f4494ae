"""What edits on their way will cost is told before they are made, and nothing is changed by asking."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.ui.canvas import ahead
from hybridlab.ui.canvas.ahead import desks, foreseen
from hybridlab.ui.canvas.desk import Desk
from hybridlab.ui.canvas.message import message
from hybridlab.ui.design.look import look_at
from hybridlab.ui.predictions import Shapes
from hybridlab.ui.state import Design

TEXT = """\
name: test
width: 64
nodes:
  - {use: attention, heads: 4}
  - {use: swiglu}
"""
ADD = {"do": "insert", "at": "nodes[1]", "node": {"use": "mlp"}}
WRONG = {"do": "set", "path": "nodes[0]", "key": "heads", "value": 5}


def edit(number: int, *changes: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "base": 0, "changes": list(changes), "guards": [], "select": None}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(ahead, "PATIENCE_S", 60)  # the first question of all waits for its process
    made = Desk(Design(TEXT, "a test"), shapes=Shapes("digits_sequence"), owner="me")
    desks.put(made)
    return made


def ask(desk: Desk, *edits: dict[str, Any]) -> dict[str, Any]:
    told = foreseen({"seed": desk.seed, "client": "a", "edits": list(edits), "again": 0})
    assert told is not None
    return told


def test_it_tells_what_streamlit_will_tell(desk: Desk) -> None:
    edits = [edit(1, ADD), edit(2, {"do": "set", "path": "nodes[1]", "key": "ratio", "value": 3.0})]
    told = ask(desk, *edits)
    assert desk.design.text == TEXT and desk.acknowledged == {} and desk.design.past == []
    desk.take({"client": "a", "edits": edits, "again": 0})
    known = look_at(desk.design.text, desk.shapes, "me", 60)
    later = message(desk, known)
    assert told["edit"] == 2
    assert {key: later[key] for key in told if key != "edit"} == {
        key: value for key, value in told.items() if key != "edit"
    }
    assert set(told["costs"]) >= {"attention", "mlp", "swiglu"}


def test_edits_that_were_made_already_are_not_made_again(desk: Desk) -> None:
    desk.take({"client": "a", "edits": [edit(1, ADD)], "again": 0})
    told = ask(desk, edit(1, ADD), edit(2, {"do": "undo"}))
    assert set(told["costs"]) == {"pixel_series", "attention", "swiglu", "classifier"}


def test_problems_are_foreseen_too(desk: Desk) -> None:
    told = ask(desk, edit(1, WRONG))
    assert [problem["path"] for problem in told["problems"]] == ["nodes[0].heads"]
    assert told["costs"] == {}


def test_who_does_not_know_the_seed_is_told_nothing(desk: Desk) -> None:
    for seed in ("0" * len(desk.seed), None, 7, ["x"]):
        assert foreseen({"seed": seed, "client": "a", "edits": [edit(1, ADD)], "again": 0}) is None


def test_what_is_no_edit_changes_nothing(desk: Desk) -> None:
    told = ask(desk, {"id": 1, "changes": "rm -rf"})
    assert told["edit"] == 1 and set(told["costs"]) >= {"attention", "swiglu"}


def test_a_desk_that_nobody_has_is_forgotten() -> None:
    seed = (gone := Desk(Design(TEXT, "a test"))).seed
    desks.put(gone)
    del gone
    assert desks.get(seed) is None
