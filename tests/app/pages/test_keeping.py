"""Nothing that was edited is lost: versions, going on, links, pictures, and what differs."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from hybridlab.architecture import carried, edit, library, versions
from hybridlab.architecture.document import loads
from hybridlab.ui.design import keeping, link
from tests.app.held import held, in_session, put_in_session
from tests.app.pages.conftest import Visitor

START = "jamba_mini"
TEXT = library.find(START).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def diagram_first(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")


@pytest.fixture
def kept(visitor):
    """Return a function that waits until all edits are written and gives the design's versions, newest first."""

    def read():
        keeping.finish()
        return versions.versions(visitor.design.history)

    return read


def opened(visitor: Visitor) -> AppTest:
    return visitor.open("1_Design", preset=START)


def heads(visitor: Visitor, number: int) -> AppTest:
    """Give the attention another number of heads, as an edit on the page would."""
    visitor.design.change(
        edit.set_parameter(visitor.design.text, "nodes[0].nodes[2]", "heads", number)
    )
    visitor.at.run()
    return visitor._whole()


def menu(visitor: Visitor, key: str) -> AppTest:
    visitor.at.session_state[key] = True
    visitor.at.run()
    return visitor._whole()


def test_opening_keeps_nothing_and_an_edit_keeps_it_and_what_was_there(visitor, kept) -> None:
    opened(visitor)
    assert kept() == []
    heads(visitor, 8)
    new, first = kept()
    assert (new.text, first.text) == (visitor.design.text, TEXT)
    assert (new.change, new.parent) == ("heads 4 → 8", first.id)
    assert new.fingerprint == loads(new.text).fingerprint
    heads(visitor, 2)
    assert [(v.change, v.parent) for v in kept()] == [("heads 4 → 2", first.id), ("", "")]


def test_edits_after_a_pause_are_versions_of_their_own(visitor, kept, monkeypatch) -> None:
    opened(visitor)
    monkeypatch.setattr(keeping, "BURST_S", -1.0)
    for number in (8, 2, 1):
        heads(visitor, number)
    assert [v.change for v in kept()] == ["heads 2 → 1", "heads 8 → 2", "heads 4 → 8", ""]


def test_a_closed_page_is_gone_on_with_from_home_and_from_the_start_page(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    text = visitor.design.text
    (_, _) = kept()
    for page in ("", "1_Design"):
        another = Visitor()
        put_in_session(another.at, "design_first_view", "Diagram")
        another.open(page)
        offered = [b for b in another.at.button if (b.key or "").startswith("go_on.")]
        assert len(offered) == 1
        assert offered[0].label.startswith("Go on with **jamba\\-mini**, edited ")
        another.press(offered[0].key)
        assert another.design.text == text
        assert another.design.preset == START
        assert another.design.history == visitor.design.history


def test_what_is_open_is_not_offered_to_go_on_with(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    kept()
    at = visitor.press("Open")
    assert not [b for b in at.button if (b.key or "").startswith("go_on.")]


def test_a_version_is_named_restored_and_the_restoring_undone(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    at = menu(visitor, "design.versions_menu")
    (name,) = [t for t in at.text_input if t.label == "Name of this version"]
    visitor.give(name, "eight heads")
    at = visitor.press("version.name")
    assert [v.name for v in kept()] == ["eight heads", ""]
    named = visitor.design.text
    heads(visitor, 2)
    later = visitor.design.text
    assert [v.name for v in kept()] == ["", "eight heads", ""]
    at = menu(visitor, "design.versions_menu")
    (listed,) = [r for r in at.radio if (r.key or "").startswith("design.versions.")]
    assert listed.options[1].startswith("**eight heads** · ")
    assert "what you see" in listed.options[0]
    visitor.give(listed, kept()[1].id)
    past = len(visitor.design.past)
    visitor.press("version.restore")
    assert visitor.design.text == named
    assert len(visitor.design.past) == past + 1
    visitor.press("design.undo")
    assert visitor.design.text == later
    assert {v.text for v in kept()} == {TEXT, named, later}


def test_saving_takes_the_versions_along_and_deleting_removes_them(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    before = visitor.design.history
    at = menu(visitor, "design.save_menu")
    visitor.give(next(t for t in at.text_input if t.label == "Name of the design"), "mine")
    visitor.press("design.save")
    visitor.at.run()
    assert visitor.design.history == versions.history_of("mine") != before
    assert len(kept()) == 2
    assert versions.versions(before) == []
    heads(visitor, 2)
    kept()
    another = Visitor()
    put_in_session(another.at, "design_first_view", "Diagram")
    another.open("1_Design")
    (key,) = [b.key for b in another.at.button if (b.key or "").startswith("go_on.")]
    another.press(key)
    assert another.design.saved_as == "mine"
    assert another.design.dirty
    another.press("Open")
    another.press("drop.mine")
    another.answer("drop.mine", "Delete")
    assert versions.versions(versions.history_of("mine")) == []


def test_a_folder_that_cannot_be_written_is_told_and_editing_goes_on(visitor, home) -> None:
    opened(visitor)
    (home / "versions").write_text("in the way", encoding="utf-8")
    heads(visitor, 8)
    keeping.finish()
    at = visitor.at.run()
    assert any("could not be kept" in error.value for error in at.error)
    assert "heads: 8" in visitor.design.text


def test_the_design_is_compared_with_where_it_came_from(visitor) -> None:
    opened(visitor)
    heads(visitor, 8)
    at = visitor.give(held(visitor.at.button_group, "design.view"), "Compare")
    (choice,) = [s for s in at.selectbox if s.label == "Compare the design with"]
    assert choice.value == f"preset {START}"
    at = visitor.until(lambda at: any("| Parameters | " in m.value for m in at.markdown))
    at = visitor.until(lambda at: not any("| – |" in m.value for m in at.markdown))
    assert "~ stage.attention: heads 4 → 8" in [c.value for c in at.code]
    info = visitor.component("design.difference")["info"]
    marks = {box["path"]: (box["mark"], box["detail"]) for box in info["boxes"] if box["mark"]}
    assert marks == {"nodes[0].nodes[2]": ("changed", "heads 4 → 8")}
    at = visitor.give(choice, f"preset {'lstm_mini'}")
    info = visitor.component("design.difference")["info"]
    assert {"added", "removed"} <= {box["mark"] for box in info["boxes"]}


def test_a_version_is_compared_from_its_menu(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    first = kept()[1]
    at = menu(visitor, "design.versions_menu")
    (listed,) = [r for r in at.radio if (r.key or "").startswith("design.versions.")]
    visitor.give(listed, first.id)
    at = visitor.press("version.compare")
    assert held(at.button_group, "design.view").value == "Compare"
    (choice,) = [s for s in at.selectbox if s.label == "Compare the design with"]
    assert choice.value == f"version {first.id}"


def test_a_link_opens_its_design_and_leaves_the_address_clean(visitor) -> None:
    text = edit.set_parameter(TEXT, "nodes[0].nodes[2]", "heads", 8)
    at = visitor.open("1_Design", design=carried.to_link(text))
    assert visitor.design.text == text
    assert "from a link" in visitor.words()
    assert link.QUERY not in at.query_params
    assert versions.histories() == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (carried.to_link(TEXT)[:-7], "cut or changed"),
        ("<script>", "cut or changed"),
        ("", "cut or changed"),
        ("A" * 50_000, "cut or changed"),
        (carried.to_link("just words"), "cannot be read"),
    ],
)
def test_a_link_that_is_none_is_told_in_one_sentence(visitor, code, sentence) -> None:
    at = visitor.open("1_Design", design=code)
    (error,) = at.error
    assert sentence in error.value
    assert in_session(at, "design") is None
    at = visitor.press("link.dismiss")
    assert not at.error


def test_a_link_to_a_preset_opens_it_and_an_unknown_one_is_told(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    assert visitor.design.text == TEXT
    assert link.PRESET not in at.query_params
    at = visitor.open("1_Design", preset="<b>jumba")
    assert [error.value for error in at.error if "there is no such preset" in error.value]
    assert visitor.design.text == TEXT


def test_a_bad_link_leaves_the_open_design_as_it_is(visitor) -> None:
    opened(visitor)
    heads(visitor, 8)
    text = visitor.design.text
    at = visitor.open("1_Design", design="cut")
    assert len(at.error) == 1
    assert visitor.design.text == text


def test_a_good_link_keeps_what_was_open(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    history, text = visitor.design.history, visitor.design.text
    visitor.open("1_Design", design=carried.to_link(TEXT))
    assert visitor.design.text == TEXT
    assert versions.versions(history)[0].text == text


def test_a_picture_of_a_design_is_opened_as_the_design(visitor) -> None:
    svg = carried.svg_with('<svg xmlns="http://www.w3.org/2000/svg"></svg>', TEXT)
    visitor.open("1_Design")
    uploader = visitor.at.get("file_uploader")[0]
    visitor._drawn(uploader.set_value(("d.svg", svg.encode(), "image/svg+xml")))
    assert visitor.design.text == TEXT


@pytest.mark.parametrize("name", ["a.svg", "a.png", "a.yaml"])
def test_a_file_that_carries_nothing_is_told(visitor, name) -> None:
    visitor.open("1_Design")
    uploader = visitor.at.get("file_uploader")[0]
    visitor._drawn(uploader.set_value((name, b"<svg></svg>", "x/y")))
    assert visitor.at.error
    assert in_session(visitor.at, "design") is None


def test_the_ways_out_are_offered(visitor) -> None:
    opened(visitor)
    visitor.until(lambda at: "valid" in visitor.words())
    menu(visitor, "design.share_menu")
    told = visitor.component("design.copy_link")
    assert carried.from_link(told["text"].partition("?design=")[2]) == TEXT
    assert carried.from_picture(
        carried.svg_with(visitor.component("design.png")["svg"], TEXT).encode()
    )
    offered = {button.proto.label for button in visitor.at.get("download_button")}
    assert {"YAML", "SVG"} <= offered


def test_a_group_is_saved_as_a_block_and_inserted_elsewhere(visitor) -> None:
    at = opened(visitor)
    visitor.give(held(at.radio, "design.tree"), "nodes[0]")
    at = menu(visitor, "block.menu")
    visitor.give(at.text_input(key="block.name.stage"), "jamba stage")
    visitor.press("block.save")
    visitor.press("block.add.jamba_stage")
    nodes = loads(visitor.design.text).nodes
    assert [node.id for node in nodes] == ["stage", "stage_2"]
    assert nodes[1].nodes == nodes[0].nodes
    visitor.press("block.drop.jamba_stage")
    assert not [b for b in visitor.at.button if (b.key or "").startswith("block.add.")]


def test_of_versions_of_one_second_the_one_that_was_chosen_is_restored(visitor, kept) -> None:
    opened(visitor)
    heads(visitor, 8)
    new, first = kept()
    second = float(int(new.time))
    wanted = [edit.set_field(TEXT, "name", f"number {n}") for n in range(3)]
    for place, text in enumerate(wanted):
        versions.keep(visitor.design.history, text, title="of one second", now=second + place / 1e3)
    at = menu(visitor, "design.versions_menu")
    (listed,) = [r for r in at.radio if (r.key or "").startswith("design.versions.")]
    visitor.give(listed, versions.version_id(wanted[2]))
    visitor.press("version.restore")
    assert visitor.design.text == wanted[2]
    assert first.text == TEXT
