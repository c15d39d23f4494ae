"""The Design page: starting, editing by list, form and text, and what happens to bad input."""

from __future__ import annotations

import re

import pytest

from hybridlab.architecture import carried, edit, library
from hybridlab.architecture.document import loads
from hybridlab.architecture.spec import MAX_NODES
from hybridlab.ui import predictions
from hybridlab.ui.design import link
from hybridlab.ui.predictions import Shapes
from hybridlab.units import format_count
from tests.app.held import held, put_in_session

START = "lstm_attention_mini"
NASTY = "<img src=x onerror=alert(1)> **bold** [link](http://x)"
BARE_HTML = re.compile(r"(?<!\\)<img")


@pytest.fixture(autouse=True)
def diagram_first(visitor) -> None:
    """The canvas needs a browser (tests/journeys); here the page begins with the diagram, the list and the palette."""
    put_in_session(visitor.at, "design_first_view", "Diagram")


def uses(visitor) -> list[str | None]:
    return [node.use for node in loads(visitor.design.text).nodes]


def opened(visitor, text: str):
    """Open the page on a text, as if it had been a file."""
    visitor.open("1_Design")
    visitor.press("Start empty")
    visitor.design.change(text)
    visitor.at.run()
    return visitor._whole()


def test_a_newcomer_is_offered_every_preset_and_an_empty_design(visitor) -> None:
    at = visitor.open("1_Design")
    assert [title.value for title in at.title] == ["Design a hybrid"]
    offered = {b.key for b in at.button if b.key and b.key.startswith("preset.")}
    assert offered == {f"preset.{entry.name}" for entry in library.presets()}
    assert len(offered) >= 7
    assert "Nothing saved yet. Save a design and it appears here." in visitor.words()
    assert "Train this" not in visitor.words()


def test_a_preset_opens_with_its_diagram_its_nodes_and_its_cost(visitor) -> None:
    visitor.open("1_Design")
    at = visitor.press(f"preset.{START}")
    assert [s.value for s in at.subheader] == [r"lstm\-attention\-mini"]
    assert visitor.design.text == library.find(START).read_text(encoding="utf-8")
    assert held(at.radio, "design.tree").options == [":blue[●] lstm", ":blue[●] attention"]
    at = visitor.until(lambda at: at.metric[0].value != "–")
    cost = predictions.predict(visitor.design.text, Shapes("digits_sequence"), "", 60)
    assert cost is not None
    assert at.metric[0].value == format_count(cost.value["params"])
    assert 40_000 < cost.value["params"] < 70_000, "two layers of width 64 with input and head"
    assert [m.value.split()[1] for m in at.metric[1:]] == ["MFLOPs", "MiB", "ms"]
    labels = "Parameters", "FLOPs per sample", "Peak memory, predicted", "Step time, predicted"
    assert [m.label for m in at.metric] == list(labels)
    assert ":material/check: valid" in visitor.words()
    info = visitor.component("design.diagram")["info"]
    assert [box["path"] for box in info["boxes"]][1:3] == ["nodes[0]", "nodes[1]"]
    assert [box["supplied"] for box in info["boxes"]] == [True, False, False, True]


def test_nodes_are_added_removed_and_brought_back(visitor) -> None:
    visitor.open("1_Design")
    visitor.press("Start empty")
    assert "No nodes yet. Add the first one from the palette below." in visitor.words()
    visitor.press("add.attention")
    at = visitor.press("add.mamba2")
    assert uses(visitor) == ["attention", "mamba2"]
    assert held(at.radio, "design.tree").value == "nodes[1]"
    visitor.press("node.arrow_upward")
    assert uses(visitor) == ["mamba2", "attention"]
    visitor.press("node.content_copy")
    assert uses(visitor) == ["mamba2", "mamba2", "attention"]
    visitor.press("node.delete")
    visitor.press("node.delete")
    assert uses(visitor) == ["mamba2"]
    for left in (["mamba2", "attention"], ["mamba2", "mamba2", "attention"]):
        visitor.press("design.undo")
        assert uses(visitor) == left
    visitor.press("design.redo")
    assert uses(visitor) == ["mamba2", "attention"]
    visitor.press("add.lstm")
    assert visitor.button("design.redo").disabled


def test_a_branch_beside_a_node_is_joined_by_a_sum(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    at = visitor.give(held(at.radio, "design.tree"), "nodes[1]")
    visitor.give(at.button_group(key="palette.where.2"), "beside")
    visitor.press("add.mamba2")
    nodes = loads(visitor.design.text).nodes
    assert [node.use for node in nodes] == ["lstm", "attention", "mamba2", "sum"]
    assert nodes[2].inputs == ("lstm",)
    assert nodes[3].inputs == ("attention", "mamba2")
    visitor.until(lambda at: "valid" in visitor.words())
    assert not visitor.at.error


def test_the_form_writes_the_text_and_the_text_fills_the_form(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    at = visitor.give(held(at.radio, "design.tree"), "nodes[1]")
    heads = "form.nodes[1].attention.heads"
    assert held(at.number_input, heads).value == 2
    at = visitor.give(held(at.number_input, heads), 4)
    assert "- {use: attention, heads: 4, qk_norm: true}" in visitor.design.text
    assert visitor.design.text.startswith("# The smallest telling hybrid"), "comments stay"
    at = visitor.give(at.button_group(key="design.view"), "YAML")
    assert held(at.text_area, "design.yaml").value == visitor.design.text
    written = visitor.design.text.replace("heads: 4", "heads: 8")
    visitor.give(held(at.text_area, "design.yaml"), written)
    at = visitor.press("yaml.apply")
    assert visitor.design.text == written
    assert held(at.number_input, heads).value == 8
    at = visitor.press("design.undo")
    assert held(at.number_input, heads).value == 4
    assert "heads: 4" in held(at.text_area, "design.yaml").value


def test_a_group_repeats_as_often_as_its_form_says(visitor) -> None:
    at = visitor.open("1_Design", preset="hymba_mini")
    at = visitor.give(held(at.radio, "design.tree"), "nodes[0]")
    at = visitor.give(held(at.number_input, "group.nodes[0].repeat"), 5)
    assert loads(visitor.design.text).nodes[0].repeat == 5
    assert held(at.radio, "design.tree").options[0] == "▾ **block × 5**"
    assert "block × 5" in [box["title"] for box in visitor.component("diagram")["info"]["boxes"]]


CANNOT_BE_READ = {
    "nodes: [": "this is not YAML",
    "name: x\nnodes:\n  - {use: attention\n": "line 4",
    "just words": "mapping",
    "just text": "this is not an architecture",
    "name: x\nwidth: .nan\nnodes: [{use: lstm}]": "width",
    "name: x\nwidth: wide\nnodes:\n  - {use: attention}\n": "width",
    "name: x\nwidth: 64\nnodes: [{use: lstm}]\ncolour: red": "colour",
    "name: x\nwidth: 64\nnodes:\n- {id: a, repeat: 0, nodes: [{use: lstm}]}": "repeat",
    "name: x\nnodes:\n  - {use: attention, repeat: 0}\n": r"nodes\[0\].repeat",
    "name: x\nnodes: []\n": "at least one node",
    "name: x\nnodes:\n  - &n {use: attention}\n  - *n\n": "aliases",
    "name: x\nnodes:\n" + "  - {use: swiglu}\n" * (MAX_NODES + 1): "too many nodes",
    "[" * 300: "nested too deeply",
}


def test_text_that_cannot_be_read_is_told_and_nothing_is_lost(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    before = visitor.design.text
    visitor.give(at.button_group(key="design.view"), "YAML")
    for text, sentence in CANNOT_BE_READ.items():
        visitor.give(held(at.text_area, "design.yaml"), text)
        at = visitor.press("yaml.apply")
        said = [error.value for error in at.error]
        assert said, "nothing is told"
        assert any(re.search(sentence, line.replace("\\", "")) for line in said), said
        assert visitor.design.text == before, "the design is as it was"
        assert held(at.text_area, "design.yaml").value == text, "the words can be put right"
        assert held(at.radio, "design.tree").options == [":blue[●] lstm", ":blue[●] attention"]
    at = visitor.press("yaml.revert")
    assert held(at.text_area, "design.yaml").value == before
    assert not at.error


def test_a_value_that_does_not_fit_is_told_beside_its_node_and_stops_training(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    at = visitor.give(held(at.radio, "design.tree"), "nodes[1]")
    visitor.give(held(at.number_input, "form.nodes[1].attention.heads"), 5)
    at = visitor.until(lambda at: at.error)
    assert all("heads" in error.value for error in at.error)
    assert len(at.error) == 2, "once in the list of problems, once beside the form"
    assert held(at.radio, "design.tree").options[1].startswith(":red[⚠]")
    assert ":material/error: 1 error" in visitor.words()
    assert visitor.button("Train this").disabled
    at = visitor.give(held(at.radio, "design.tree"), "nodes[0]")
    visitor.press("problem.0")
    assert visitor.design.selected == "nodes[1]"
    wrong = [b["path"] for b in visitor.component("diagram")["info"]["boxes"] if b["errors"]]
    assert wrong == ["nodes[1]"]
    visitor.press("design.undo")
    visitor.until(lambda at: "valid" in visitor.words())
    assert not visitor.button("Train this").disabled


def test_an_unknown_component_and_an_unknown_key_can_be_put_right_on_the_page(visitor) -> None:
    text = "name: x\nwidth: 64\nnodes:\n  - {use: lstm, sause: 3}\n  - {use: attentoin}\n"
    opened(visitor, text)
    at = visitor.until(lambda at: len(at.error) >= 2)
    said = "\n".join(error.value for error in at.error)
    assert "sause" in said
    assert "attentoin" in said
    visitor.give(held(at.radio, "design.tree"), "nodes[0]")
    visitor.press("unknown.nodes[0].sause")
    assert "sause" not in visitor.design.text


def test_html_and_markdown_in_names_are_shown_as_text(visitor) -> None:
    text = edit.set_field(library.find(START).read_text(encoding="utf-8"), "name", NASTY)
    at = opened(visitor, text)
    (title,) = [s.value for s in at.subheader]
    assert title.startswith(r"\<img src=x onerror=alert\(1\)\> \*\*bold\*\* \[link\]")
    assert not BARE_HTML.search(visitor.words())
    assert held(at.text_input, "design.name").value == NASTY
    visitor.at.session_state["design.save_menu"] = True
    visitor.at.run()
    visitor.press("design.save")
    visitor.press("Open")
    assert not BARE_HTML.search(visitor.words())
    assert any(b.label.startswith(r"\<img") for b in visitor.at.button), "listed as saved"


def test_a_design_is_saved_found_again_and_deleted_only_after_a_question(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    visitor.press("add.lstm")
    assert "not saved yet" in visitor.words()
    at.session_state["design.save_menu"] = True
    at.run()
    at = visitor.give(next(t for t in at.text_input if t.label == "Name of the design"), "mine")
    visitor.press("design.save")
    assert [entry.name for entry in library.designs()] == ["mine"]
    assert library.designs()[0].text() == visitor.design.text
    visitor.at.run()
    assert "from design mine" in visitor.words()
    assert "not saved yet" not in visitor.words()
    visitor.press("Open")
    visitor.press("drop.mine")
    assert "will be removed from this machine" in visitor.words()
    assert [entry.name for entry in library.designs()] == ["mine"], "not before the answer"
    visitor.answer("drop.mine", "Keep it")
    assert [entry.name for entry in library.designs()] == ["mine"]
    visitor.press("drop.mine")
    assert [b.label for b in visitor.at.button if not b.key][-2:] == ["Delete", "Keep it"]
    visitor.answer("drop.mine", "Delete")
    assert library.designs() == []


def test_the_palette_is_searched_by_word(visitor) -> None:
    at = visitor.open("1_Design", preset=START)
    at = visitor.give(at.text_input(key="palette.search"), "mamba-2")
    assert [b.key for b in at.button if b.key and b.key.startswith("add.")] == ["add.mamba2"]
    visitor.give(at.text_input(key="palette.search"), "no such thing")
    assert "Nothing found. Try another word, or choose another kind." in visitor.words()


def test_the_cost_follows_the_batch(visitor) -> None:
    visitor.open("1_Design", preset=START)
    at = visitor.until(lambda at: at.metric[0].value != "–")
    small = [m.value for m in at.metric]
    visitor.give(held(at.number_input, "shapes.batch"), 256)
    at = visitor.until(lambda at: at.metric[2].value != small[2])
    assert [m.value for m in at.metric][:2] == small[:2], "per sample it costs the same"
    assert float(at.metric[2].value.split()[0]) > 3 * float(small[2].split()[0])


def test_a_design_too_large_to_draw_is_told_not_drawn(visitor) -> None:
    nodes = "".join(f"  - {{id: n{i}, use: swiglu}}\n" for i in range(301))
    opened(visitor, f"name: big\nwidth: 64\nnodes:\n{nodes}")
    assert "301 nodes (301 with repeats) are too many to draw; at most 300." in visitor.words()
    assert not visitor.at.get("bidi_component")


def test_the_canvas_comes_first_and_is_told_what_it_draws(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Canvas")
    at = visitor.open("1_Design", preset=START)
    assert at.button_group(key="design.view").value == "Canvas"
    told = visitor.component("design.canvas")
    assert [node["use"] for node in told["nodes"]] == ["lstm", "attention"]
    assert [item["place"] for item in told["supplied"]] == ["first", "last"]
    assert told["revision"] == 0
    assert len(told["catalogue"]) > 15


def test_of_two_nodes_that_read_alike_the_one_that_was_chosen_is_selected(visitor) -> None:
    visitor.open("1_Design", preset="jamba_mini")
    block = "\n".join(
        f"  - id: {name}\n    nodes:\n      - id: mlp\n        use: swiglu"
        for name in ("one", "two")
    )
    visitor.design.change(f"name: twins\nwidth: 32\nnodes:\n{block}\n")
    visitor.at.run()
    for path in ("nodes[0].nodes[0]", "nodes[1].nodes[0]"):
        visitor.give(held(visitor._whole().radio, "design.tree"), path)
        assert visitor.design.selected == path


TALKS = """\
name: a language model
width: 32
nodes:
  - {use: token_embedding, vocab: 64}
  - {use: attention}
  - {use: lm_head, vocab: 64}
"""


def test_a_design_with_an_input_of_its_own_is_looked_at_with_a_task_that_it_reads(visitor) -> None:
    """It would else begin with an error about pixels; what is chosen afterwards stays."""
    at = visitor.open("1_Design", preset=START)
    assert held(at.selectbox, "shapes.task").value == "digits_sequence"
    at = visitor.open("1_Design", **{link.QUERY: carried.to_link(TALKS)})
    assert visitor.design.text == TALKS
    assert held(at.selectbox, "shapes.task").value == "python_bytes"
    at = visitor.until(lambda at: at.metric[0].value != "–")
    assert not at.error
    visitor.give(held(at.selectbox, "shapes.task"), "digits_sequence")
    visitor.at.run()
    assert held(visitor._whole().selectbox, "shapes.task").value == "digits_sequence"


def test_a_component_tells_all_about_itself_in_a_dialog(visitor) -> None:
    visitor.open("1_Design")
    at = visitor.press("start.empty")
    visitor.give(at.text_input(key="palette.search"), "swiglu")
    at = visitor.press("palette.about")
    words = visitor.words()
    assert "##### Data flow" in words and "##### Parameters" in words and "silu" in words
    assert "mermaid" not in words
    drawn = visitor.component("about.swiglu.flow")["info"]
    assert drawn["boxes"][0]["title"] == "input"
    assert len(drawn["edges"]) >= len(drawn["boxes"]) - 1 > 3
    assert "Page (Markdown)" in [button.label for button in at.get("download_button")]
