"""Two tabs on one design: the second is told, sees what both changed, chooses, and nothing is lost."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from hybridlab.architecture import edit, library, versions
from hybridlab.architecture.document import loads
from hybridlab.ui.design import keeping
from tests.app.held import put_in_session
from tests.app.pages.conftest import Visitor

TEXT = library.find("jamba_mini").read_text(encoding="utf-8")
MIXER, ATTENTION = "nodes[0].nodes[0]", "nodes[0].nodes[2]"


def tab() -> Visitor:
    """Return a tab with the saved design open."""
    visitor = Visitor()
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design")
    visitor.press("saved.mine")
    return visitor


@pytest.fixture
def tabs(home):
    """Two tabs on the design saved as mine."""
    library.save_design("mine", TEXT)
    return tab(), tab()


def change(visitor: Visitor, path: str, key: str, value: object) -> None:
    visitor.design.change(edit.set_parameter(visitor.design.text, path, key, value))
    visitor.at.run()
    visitor._whole()


def menu(visitor: Visitor) -> AppTest:
    visitor.at.session_state["design.save_menu"] = True
    visitor.at.run()
    return visitor._whole()


def save(visitor: Visitor) -> None:
    menu(visitor)
    visitor.press("design.save")


def saved() -> str:
    return next(entry for entry in library.designs() if entry.name == "mine").text()


def test_what_the_tabs_changed_apart_is_merged_and_saved(tabs) -> None:
    first, second = tabs
    change(first, ATTENTION, "heads", 8)
    save(first)
    change(second, MIXER, "state", 32)
    mine = second.design.text
    save(second)
    assert "was saved elsewhere since you opened it" in second.words()
    theirs = saved()
    at = second.press("design.merge")
    assert [title.value for title in at.title] == ["Merge two versions"]
    assert "Nothing was changed by both in different ways" in "".join(s.value for s in at.success)
    assert [code.value.strip() for code in at.code] == ["~ stage.attention: heads 4 → 8"]
    assert second.design.text == mine
    second.press("merge.take")
    merged = second.design.text
    assert merged == TEXT.replace("heads: 4", "heads: 8").replace("state: 16", "state: 32")
    second.at.run()
    save(second)
    second.at.run()
    assert saved() == merged
    keeping.finish()
    kept = {version.text for version in versions.versions(second.design.history)}
    assert {mine, theirs, merged} <= kept
    second.press("design.undo")
    assert second.design.text == mine


def test_what_both_changed_is_chosen_and_only_then_taken(tabs) -> None:
    first, second = tabs
    change(first, ATTENTION, "heads", 8)
    change(first, MIXER, "state", 64)
    save(first)
    change(second, ATTENTION, "heads", 2)
    at = menu(second)
    assert "saved elsewhere" in second.words(), "also before anything was pressed"
    at = second.press("design.merge")
    (choice,) = [radio for radio in at.radio if "heads" in radio.label]
    assert choice.label == r"stage\.attention\: you set heads to 2, the other to 8; it was 4\."
    assert choice.options == ["Mine: heads 2", "The other's: heads 8"]
    assert choice.value is None
    assert second.button("merge.take").disabled
    at = second.give(choice, "theirs")
    assert not second.button("merge.take").disabled
    second.press("merge.all.mine")
    second.press("merge.all.theirs")
    second.press("merge.take")
    attention = loads(second.design.text).nodes[0].nodes
    assert (attention[2].params["heads"], attention[0].params["state"]) == (8, 64)


def test_going_back_changes_nothing(tabs) -> None:
    first, second = tabs
    change(first, ATTENTION, "heads", 8)
    save(first)
    change(second, MIXER, "state", 32)
    text, past = second.design.text, list(second.design.past)
    menu(second)
    second.press("design.merge")
    at = second.press("merge.back")
    assert not at.title
    assert (second.design.text, second.design.past) == (text, past)
    assert second.design.dirty


def test_what_cannot_be_read_is_told_with_a_way_back(tabs) -> None:
    _, second = tabs
    library.save_design("mine", "nothing", overwrite=True)
    menu(second)
    at = second.press("design.merge")
    assert "this is not an architecture" in at.error[0].value
    second.press("merge.back")
    assert second.design.text == TEXT


def test_nobody_is_told_where_nobody_saved(tabs) -> None:
    _, second = tabs
    change(second, MIXER, "state", 32)
    menu(second)
    assert "saved elsewhere" not in second.words()


def test_two_tabs_that_went_on_from_one_unsaved_design_merge_by_versions(home) -> None:
    first = Visitor()
    put_in_session(first.at, "design_first_view", "Diagram")
    first.open("1_Design")
    first.press("preset.jamba_mini")
    change(first, ATTENTION, "kv_heads", 4)
    keeping.finish()
    second = Visitor()
    put_in_session(second.at, "design_first_view", "Diagram")
    second.open("1_Design")
    (offer,) = [b.key for b in second.at.button if (b.key or "").startswith("go_on.")]
    second.press(offer)
    change(second, MIXER, "state", 32)
    keeping.finish()
    change(first, ATTENTION, "heads", 8)
    keeping.finish()
    theirs = first.design.text
    second.at.session_state["design.versions_menu"] = True
    second.at.run()
    at = second._whole()
    (listed,) = [r for r in at.radio if (r.key or "").startswith("design.versions.")]
    second.give(listed, versions.version_id(theirs))
    at = second.press("version.merge")
    assert [title.value for title in at.title] == ["Merge two versions"]
    second.press("merge.take")
    nodes = loads(second.design.text).nodes[0].nodes
    assert nodes[0].params["state"] == 32
    assert nodes[2].params == {"heads": 8, "kv_heads": 4}
