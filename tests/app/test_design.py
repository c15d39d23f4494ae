"""The designer: list, form and text are three views of one architecture, and undo goes through all of them."""

from __future__ import annotations

import time

import pytest

from hybridlab.architecture import carried, library
from hybridlab.architecture.document import loads
from hybridlab.ui import predictions
from tests.app.held import held, in_session

ATTENTION = "nodes[0].nodes[0].nodes[0]"


@pytest.fixture
def design(open_page):
    """Return a function that opens the designer with a preset or a text."""

    def opened(preset: str = "hymba_mini", text: str | None = None):
        if text is None:
            page = open_page("1_Design", first_view="Diagram", preset=preset)
        else:
            page = open_page("1_Design", first_view="Diagram", design=carried.to_link(text))
        assert not page.exception
        return page

    return opened


def text_of(page) -> str:
    return in_session(page, "design").text


def view(page, name: str):
    page.button_group(key="design.view").set_value(name).run()
    assert not page.exception


def apply(page, text: str) -> None:
    view(page, "YAML")
    held(page.text_area, "design.yaml").set_value(text)
    page.button(key="yaml.apply").click().run()


def select(page, path: str) -> None:
    held(page.radio, "design.tree").set_value(path).run()
    assert not page.exception


def settle(page):
    """Draw the page again until shapes and cost are known."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page.run()
        if "Working out" not in "".join(item.value for item in page.caption):
            return page
    raise AssertionError("shapes and cost never came")


def test_undo_and_redo_go_through_every_kind_of_change(design) -> None:
    page = design()
    states = [text_of(page)]
    select(page, ATTENTION)
    page.number_input(key=f"form.{ATTENTION}.attention.heads").set_value(8).run()
    states.append(text_of(page))
    page.button(key="node.content_copy").click().run()
    states.append(text_of(page))
    apply(page, text_of(page).replace("width: 64", "width: 128"))
    states.append(text_of(page))
    assert len(set(states)) == 4
    for expected in reversed(states[:-1]):
        page.button(key="design.undo").click().run()
        assert text_of(page) == expected
    assert page.button(key="design.undo").disabled
    for expected in states[1:]:
        page.button(key="design.redo").click().run()
        assert text_of(page) == expected


def test_nodes_move_wrap_unwrap_and_go(design) -> None:
    page = design(
        text="name: x\nwidth: 64\nnodes:\n  - {use: lstm}\n  - {use: attention}\n  - {use: swiglu}\n"
    )
    uses = lambda: [node.use for node in loads(text_of(page)).nodes]  # noqa: E731
    select(page, "nodes[0]")
    page.button(key="node.arrow_downward").click().run()
    assert uses() == ["attention", "lstm", "swiglu"]
    assert in_session(page, "design").selected == "nodes[1]"
    page.button(key="node.repeat").click().run()
    assert uses() == ["attention", None, "swiglu"]
    page.number_input(key="group.nodes[1].repeat").set_value(3).run()
    page.toggle(key="group.nodes[1].tie").set_value(True).run()
    group = loads(text_of(page)).nodes[1]
    assert (group.repeat, group.tie) == (3, True)
    page.button(key="node.unfold_less").click().run()
    assert uses() == ["attention", "lstm", "swiglu"]
    page.button(key="node.delete").click().run()
    assert uses() == ["attention", "swiglu"]


def test_inside_adds_to_the_end_of_a_group(design) -> None:
    page = design("jamba_mini")
    select(page, "nodes[0]")
    page.button_group(key="palette.where.3").set_value("inside").run()
    page.button(key="add.lstm").click().run()
    assert loads(text_of(page)).nodes[0].nodes[-1].use == "lstm"


def test_every_component_of_the_palette_can_be_added(design) -> None:
    page = design("lstm_attention_mini")
    page.text_input(key="palette.search").set_value("a").run()
    page.button_group(key="palette.kind").set_value(None).run()
    page.text_input(key="palette.search").set_value("").run()
    shown = [b.key for b in page.button if b.key and b.key.startswith("add.")]
    assert len(shown) == 10 and {"add.attention", "add.swiglu"} <= set(shown), "the most used"
    page.button(key="palette.all").click().run()
    for entry in predictions.components():
        held(page.radio, "design.tree").set_value("nodes[1]")
        page.button(key=f"add.{entry['name']}").click().run()
        assert not page.exception, entry["name"]
        assert loads(text_of(page)).nodes[2].use == entry["name"]
        in_session(page, "design").undo()  # the next one draws it; other tests press the button


def test_rename_wire_and_residual(design) -> None:
    page = design(
        text="name: x\nwidth: 64\nnodes:\n  - {use: lstm}\n  - {use: attention}\n  - {use: swiglu}\n"
    )
    page.session_state["node.wiring"] = True
    select(page, "nodes[2]")
    page.multiselect(key="inputs.nodes[2]").set_value(["lstm"]).run()
    page.selectbox(key="residual.nodes[2]").set_value("post").run()
    select(page, "nodes[0]")
    page.text_input(key="id.nodes[0]").set_value("first").run()
    nodes = loads(text_of(page)).nodes
    assert nodes[0].id == "first"
    assert nodes[2].inputs == ("first",)
    assert nodes[2].residual == "post"


def test_another_component_keeps_what_both_know(design) -> None:
    page = design(
        text="name: x\nwidth: 64\nnodes:\n  - {id: mix, use: attention, heads: 8, rotary: false}\n"
    )
    select(page, "nodes[0]")
    page.selectbox(key="use.nodes[0]").set_value("gated_linear_attention").run()
    node = loads(text_of(page)).nodes[0]
    assert (node.id, node.use, node.params) == ("mix", "gated_linear_attention", {"heads": 8})


def test_reset_brings_every_default_back(design) -> None:
    page = design()
    select(page, ATTENTION)
    page.button(key="node.reset").click().run()
    assert loads(text_of(page)).nodes[0].nodes[0].nodes[0].params == {}


def test_the_draft_survives_other_pages(design) -> None:
    page = design()
    select(page, ATTENTION)
    page.number_input(key=f"form.{ATTENTION}.attention.heads").set_value(2).run()
    page.switch_page("pages/3_Runs.py").run()
    page.switch_page("pages/1_Design.py").run()
    assert "heads: 2" in text_of(page)
    assert in_session(page, "design").selected == ATTENTION
    assert page.number_input(key=f"form.{ATTENTION}.attention.heads").value == 2


def test_save_open_copy_and_delete(design, said) -> None:
    page = design()
    page.session_state["design.save_menu"] = True
    page.run()
    page.text_input(key="design.name_to_save").set_value("my hybrid")
    page.button(key="design.save").click().run()
    assert [entry.name for entry in library.designs()] == ["my_hybrid"]
    assert library.designs()[0].text() == text_of(page)
    assert "not saved yet" not in said(page)
    page.session_state["design.save_menu"] = True
    page.run()
    page.button(key="design.copy").click().run()
    assert {entry.name for entry in library.designs()} == {"my_hybrid", "my_hybrid_copy"}
    page.button(key="design.open").click().run()
    page.button(key="saved.my_hybrid").click().run()
    assert in_session(page, "design").saved_as == "my_hybrid"


def test_a_taken_name_is_told_and_nothing_is_lost(design) -> None:
    library.save_design("taken", "name: kept\nnodes:\n  - {use: attention}\n")
    page = design()
    page.session_state["design.save_menu"] = True
    page.run()
    page.text_input(key="design.name_to_save").set_value("taken")
    page.button(key="design.save").click().run()
    assert any("saved already" in error.value for error in page.error)
    assert "name: kept" in library.designs()[0].text()


def test_a_dead_prediction_process_is_a_sentence(design, monkeypatch) -> None:
    from hybridlab.errors import Problem
    from hybridlab.ui.worker_pool import Answer

    page = design()
    broken = Answer(problems=(Problem("", "the prediction process ended unexpectedly"),))
    monkeypatch.setattr(predictions, "check", lambda *args, **named: broken)
    page.run()
    assert not page.exception
    assert any("ended unexpectedly" in error.value for error in page.error)


def test_a_node_stays_selected_when_its_line_reads_otherwise(design) -> None:
    page = design(text="name: x\nwidth: 64\nnodes:\n  - {use: lstm}\n  - {use: attention}\n")
    page.session_state["node.wiring"] = True
    select(page, "nodes[1]")
    before = held(page.radio, "design.tree").key
    held(page.text_input, "id.nodes[1]").set_value("look").run()
    radio = held(page.radio, "design.tree")
    assert "look" in radio.options[1]
    assert radio.key != before, (
        "a browser knows the chosen line by its words: a new list for new words"
    )
    assert radio.value == "nodes[1]"
    radio.set_value(None).run()
    assert in_session(page, "design").selected == "nodes[1]"


def test_no_widget_has_to_be_told_its_value(design) -> None:
    """A browser that is slower than the server misses what it is told: a widget's default has to be its value."""
    page = design("hymba_mini")
    page.session_state["node.wiring"] = True
    select(page, "nodes[0].nodes[0]")
    in_session(page, "design").change(in_session(page, "design").text.replace("64", "96"))
    page.run()
    for kind in (
        "number_input",
        "text_input",
        "selectbox",
        "toggle",
        "radio",
        "multiselect",
        "text_area",
    ):
        for widget in getattr(page, kind):
            assert not widget.proto.set_value, widget.key
    view(page, "YAML")
    assert not held(page.text_area, "design.yaml").proto.set_value
