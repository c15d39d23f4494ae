"""Fix buttons beside the canvas: under the text, in the list of problems, and what the canvas is told."""

from __future__ import annotations

import pytest

from hybridlab.architecture.document import loads
from hybridlab.ui.canvas.desk import Desk
from hybridlab.ui.canvas.message import message
from hybridlab.ui.design.look import Look, text_fixes
from hybridlab.ui.state import Design, parsed
from tests.app.held import held, in_session, put_in_session

TOP = "name: x\nwidth: 64\nnodes:\n"


@pytest.fixture
def apply(open_page):
    """Return a function that opens the designer, writes a text into the YAML view and applies it."""

    def applied(text: str):
        page = open_page("1_Design")
        put_in_session(page, "design_first_view", "YAML")
        page.button(key="start.empty").click().run()
        held(page.text_area, "design.yaml").set_value(text)
        page.button(key="yaml.apply").click().run()
        assert not page.exception
        return page

    return applied


def text_of(page) -> str:
    return in_session(page, "design").text


def until_checked(page):
    for _ in range(200):
        if "Working out" not in "".join(item.value for item in page.caption):
            return page
        page.run()
    raise AssertionError("the check never came")


def test_a_fix_under_the_text_mends_it_and_takes_it(apply, said) -> None:
    page = apply(TOP + "  # mine\n  - {id: g, repeat: 0, nodes: [{use: swiglu}]}\n")
    assert "out of range" in said(page)
    assert text_of(page).endswith("nodes: []\n")
    page.button(key="yaml.0.fix.0").click().run()
    assert loads(text_of(page)).nodes[0].repeat == 1
    assert "# mine" in text_of(page)
    assert "out of range" not in said(page)
    assert held(page.text_area, "design.yaml").value == text_of(page)


def test_two_mistakes_are_mended_one_by_one_in_the_draft(apply, said) -> None:
    page = apply(TOP + "  - {id: g, repeat: 0, nodes: [{use: swiglu}]}\n  - {id: h, nodes: []}\n")
    page.button(key="yaml.0.fix.0").click().run()
    assert text_of(page).endswith("nodes: []\n")
    assert "repeat: 1" in held(page.text_area, "design.yaml").value
    page.button(key="yaml.0.fix.0").click().run()
    assert [node.id for node in loads(text_of(page)).nodes] == ["g"]


def test_a_text_typed_on_after_the_message_is_looked_at_anew(apply, said) -> None:
    page = apply(TOP + "  - {id: g, repeat: 0, nodes: [{use: swiglu}]}\n")
    held(page.text_area, "design.yaml").set_value(TOP + "  - {use: mlp, inputs: []}\n")
    page.button(key="yaml.0.fix.0").click().run()
    assert "is empty" in said(page)
    assert "repeat" not in held(page.text_area, "design.yaml").value


def test_the_list_of_problems_has_the_fixes_and_undo_brings_the_mistake_back(apply, said) -> None:
    page = until_checked(apply(TOP + "  - {use: attention, heads: 5}\n"))
    assert "5 does not divide width 64" in said(page)
    page.button(key="problem.0.fix.0").click().run()
    assert loads(text_of(page)).nodes[0].params == {"heads": 4}
    until_checked(page)
    page.button(key="design.undo").click().run()
    assert loads(text_of(page)).nodes[0].params == {"heads": 5}


def test_hints_stand_apart_and_block_nothing(apply, said) -> None:
    page = apply(TOP + "  - {use: rms_norm}\n  - {use: layer_norm}\n  - {use: swiglu}\n")
    for _ in range(50):
        if "Hints" in said(page):
            break
        page.run()
    assert "Hints, from the predicted cost" in said(page)
    assert "valid" in said(page)
    assert not next(b for b in page.button if b.label == "Train this").disabled
    page.button(key="hint.0.fix.0").click().run()
    assert [node.use for node in loads(text_of(page)).nodes] == ["rms_norm", "swiglu"]


def test_the_budget_is_remembered_and_is_red_where_it_is_overdrawn(apply) -> None:
    page = until_checked(apply(TOP + "  - {use: swiglu}\n"))

    def drawn() -> str:
        until_checked(page)
        assert not page.exception
        return "".join(str(element.proto.body) for element in page.get("html"))

    held(page.selectbox, "budget.device").set_value("8 GiB").run()
    assert "of 8 GiB, under 1 %, fits" in drawn()
    assert in_session(page, "budget") == "8 GiB"
    put_in_session(page, "budget", "1 KiB")
    page.run()
    assert 'data-over="true"' in drawn()
    assert held(page.selectbox, "budget.device").value == "1 KiB"


def test_the_canvas_is_told_problems_with_their_fixes() -> None:
    text = TOP + "  - {id: g, repeat: 0, nodes: [{use: swiglu}]}\n"
    architecture, problems = parsed(text)
    assert architecture is None
    sent = message(
        Desk(Design(text, "a test")), Look(None, problems=problems, fixes=text_fixes(text))
    )
    (problem,) = sent["problems"]
    assert problem["severity"] == "error"
    assert problem["fixes"][0] == {
        "title": "Set repeat to 1",
        "changes": [{"do": "set", "path": "nodes[0]", "key": "repeat", "value": 1}],
    }
