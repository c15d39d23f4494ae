"""Edits keep comments, keep meaning, and never leave text that cannot be read."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.architecture import edit
from hybridlab.architecture.document import loads, parse
from hybridlab.architecture.graph import try_resolve
from hybridlab.errors import SpecError

TEXT = """\
# top
name: mixed
width: 64
nodes:
  - {id: stem, use: lstm}
  - id: stage
    repeat: 2
    nodes:
      - {use: attention, heads: 4}   # the looking part
      - {use: swiglu}
  - {id: a, use: attention}
  - {id: b, use: lstm, inputs: [stage]}   # the other branch
  - {id: join, use: sum, inputs: [a, b]}
"""


def test_set_and_reset_a_parameter_keeps_everything_else():
    changed = edit.set_parameter(TEXT, "nodes[1].nodes[0]", "heads", 8)
    assert changed == TEXT.replace("heads: 4", "heads: 8")
    assert edit.set_parameter(changed, "nodes[1].nodes[0]", "heads", 4) == TEXT
    assert "heads" not in edit.set_parameter(TEXT, "nodes[1].nodes[0]", "heads", None)


def test_a_node_carried_to_another_group_keeps_its_comment():
    out = edit.carry(TEXT, "nodes[1].nodes[0]", "nodes[2]", {"use": "attention", "heads": 4})
    out = edit.remove(out, "nodes[1].nodes[0]")
    assert re.search(r"\n  - {use: attention, heads: 4} +# the looking part\n  - {id: a,", out)
    assert out.count("# the looking part") == out.count("# the other branch") == 1
    into = edit.carry(TEXT, "nodes[3]", "nodes[1].nodes[2]", {"id": "c", "inputs": ["swiglu"]})
    assert re.search(
        r"\n      - {id: c, use: lstm, inputs: \[swiglu\]} +# the other branch\n", into
    )
    assert [node.id for node in loads(into).nodes[1].nodes] == ["attention", "swiglu", "c"]


def test_set_a_field_of_the_architecture():
    assert loads(edit.set_field(TEXT, "width", 128)).width == 128


def test_add_behind_into_and_at_the_end():
    text = edit.add(TEXT, {"use": "mlp"}, after="nodes[0]")
    text = edit.add(text, {"use": "gru", "hidden": 32}, into="nodes[2]")
    text = edit.add(text, {"use": "mlp"})
    architecture = loads(text)
    assert [node.use for node in architecture.nodes] == [
        "lstm",
        "mlp",
        None,
        "attention",
        "lstm",
        "sum",
        "mlp",
    ]
    assert [node.use for node in architecture.nodes[2].nodes] == ["attention", "swiglu", "gru"]
    assert "# the looking part" in text and "# the other branch" in text


def test_add_to_an_empty_architecture():
    text = edit.add(edit.EMPTY, {"use": "attention", "heads": 4})
    assert "  - {use: attention, heads: 4}\n" in text
    assert loads(text).nodes[0].params == {"heads": 4}


def test_remove_reconnects_the_readers():
    text = edit.remove(TEXT, "nodes[1]")
    assert loads(text).nodes[2].inputs == ("stem",)
    text = edit.remove(TEXT, "nodes[2]")
    assert loads(text).nodes[3].inputs == ("stage", "b")


def test_removing_the_last_node_of_a_group_removes_the_group():
    text = edit.remove(edit.remove(TEXT, "nodes[1].nodes[0]"), "nodes[1].nodes[0]")
    assert [node.id for node in loads(text).nodes] == ["stem", "a", "b", "join"]


def test_move_and_back_is_the_same_text():
    moved = edit.move(TEXT, "nodes[1].nodes[0]", 1)
    assert [node.use for node in loads(moved).nodes[1].nodes] == ["swiglu", "attention"]
    assert edit.move(moved, "nodes[1].nodes[1]", -1) == TEXT
    assert edit.move(TEXT, "nodes[0]", -1) == TEXT


def test_duplicate_gets_a_fresh_id():
    assert [n.id for n in loads(edit.duplicate(TEXT, "nodes[2]")).nodes] == [
        "stem",
        "stage",
        "a",
        "a_2",
        "b",
        "join",
    ]


def test_wrap_and_unwrap():
    wrapped = edit.wrap(TEXT, "nodes[3]", repeat=3)
    group = loads(wrapped).nodes[3]
    assert (group.repeat, group.inputs, group.nodes[0].id) == (3, ("stage",), "b")
    assert loads(wrapped).nodes[4].inputs == ("a", group.id)
    assert loads(edit.unwrap(wrapped, "nodes[3]")) == loads(TEXT)


def test_rename_follows_the_readers():
    text = edit.rename(TEXT, "nodes[1]", "body")
    assert loads(text).nodes[3].inputs == ("body",)


def test_replace_keeps_what_fits():
    node = (
        loads(edit.replace(TEXT, "nodes[1].nodes[0]", "linear_attention", ["heads"]))
        .nodes[1]
        .nodes[0]
    )
    assert (node.use, node.params) == ("linear_attention", {"heads": 4})
    node = loads(edit.replace(TEXT, "nodes[1].nodes[0]", "lstm", ["hidden"])).nodes[1].nodes[0]
    assert (node.use, node.params) == ("lstm", {})


def test_an_implied_id_that_is_referred_to_keeps_its_meaning():
    text = "name: x\nnodes:\n  - {use: a}\n  - {use: a}\n  - {use: sum, inputs: [a, a_2]}\n"
    edited = loads(edit.add(text, {"use": "a", "new": True}, after="nodes[0]"))
    assert [node.id for node in edited.nodes] == ["a", "a_3", "a_2", "sum"]
    assert edited.nodes[1].params == {"new": True}


@pytest.mark.parametrize("path", ["nodes[9]", "nodes[0].nodes[0]", "nodes[1].nodes[5]"])
def test_a_wrong_address_is_a_sentence(path):
    with pytest.raises(SpecError, match="there is no such node"):
        edit.set_parameter(TEXT, path, "heads", 4)


def addresses(text: str) -> list[str]:
    return [path for path, _, _ in loads(text).walk()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 30), st.integers(-3, 3)), max_size=12))
def test_random_edits_always_leave_text_that_reads_and_resolves(choices):
    text = TEXT
    for kind, place, amount in choices:
        paths = addresses(text)
        path = paths[place % len(paths)]
        is_group = "nodes" in edit.read_field(text, path)
        if kind == 0:
            text = edit.add(text, {"use": "mlp"}, after=path)
        elif kind == 1 and len(loads(text).nodes) > 1:
            text = edit.remove(text, path)
        elif kind == 2:
            text = edit.duplicate(text, path)
        elif kind == 3 and path.count("[") < 4:
            text = edit.wrap(text, path)
        elif kind == 4 and is_group:
            text = edit.unwrap(text, path)
        elif kind == 5:
            text = edit.rename(text, path, f"n{place}_{amount + 3}")
        elif kind == 6 and not is_group:
            text = edit.set_parameter(text, path, "heads", amount + 4)
        elif kind == 7:
            text = edit.set_parameter(text, path, "residual", "none")
        architecture, problems = parse(text)
        assert architecture is not None, [problem.sentence() for problem in problems]
        wrong = [p for p in try_resolve(architecture)[1] if "no such node" in p.message]
        assert not wrong, (wrong, text)
    assert "# top" in text
    assert not re.search(r"\*id\d|&id\d", text)
