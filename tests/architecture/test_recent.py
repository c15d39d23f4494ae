"""Edits that start from remembered objects give what edits of the text alone would give."""

from __future__ import annotations

import random
import re

import pytest

from hybridlab.architecture import edit, recent
from hybridlab.architecture.document import parse
from hybridlab.architecture.library import presets

CHANGES = (
    lambda text, path: edit.set_parameter(text, path, "residual", "none"),
    lambda text, path: edit.set_parameter(text, path, "bias", True),
    lambda text, path: edit.set_parameter(text, path, "state", 32),
    lambda text, path: edit.add(text, {"use": "swiglu"}, after=path),
    lambda text, path: edit.duplicate(text, path),
    lambda text, path: edit.move(text, path, 1),
    lambda text, path: edit.wrap(text, path),
    lambda text, path: edit.rename(text, path, "renamed"),
)


def forget() -> None:
    recent._kept.clear()


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("seed", range(3))
def test_a_chain_of_edits_is_the_same_with_and_without_memory(entry, seed) -> None:
    chance = random.Random(seed)
    warm = cold = entry.text()
    for _ in range(8):
        change = chance.choice(CHANGES)
        architecture, problems = parse(warm)
        assert architecture is not None, problems
        path = chance.choice([path for path, _, node in architecture.walk() if not node.is_group])
        kept = dict(recent._kept)
        forget()
        cold = change(cold, path)
        forget()
        fresh = parse(cold)
        recent._kept.update(kept)
        warm = change(warm, path)
        assert warm == cold
        assert parse(warm) == fresh


def test_objects_are_handed_to_one_editor_only() -> None:
    text = edit.set_parameter("name: a\nnodes:\n  - {use: attention}\n", "nodes[0]", "heads", 2)
    first = recent.take_root(text)
    assert first is not None
    assert recent.take_root(text) is None
    assert parse(text)[0] is not None


def test_a_failed_edit_leaves_no_half_changed_memory() -> None:
    text = edit.set_parameter("name: a\nnodes:\n  - {use: attention}\n", "nodes[0]", "heads", 2)
    with pytest.raises(Exception, match="no such node"):
        edit.remove(text, "nodes[7]")
    assert edit.set_parameter(text, "nodes[0]", "heads", 4) == text.replace("heads: 2", "heads: 4")


LINES = """\
name: lines   # kept
width: 64
nodes:
  - {use: swiglu}
  - {use: swiglu}   # the second
  - id: stage
    repeat:   2
    nodes:
        - { use: lstm,  layers: 2 }
        - {use: attention, heads: 4, note: "a # b"}
        - use: mamba2
          state: 16
"""


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("nodes[0]", 3, "  - {use: swiglu, ratio: 2.5}"),
        ("nodes[1]", 4, "  - {use: swiglu, ratio: 2.5}   # the second"),
        ("nodes[2].nodes[1]", 9, '        - {use: attention, heads: 4, note: "a # b", ratio: 2.5}'),
    ],
)
def test_a_parameter_on_one_line_leaves_every_other_line_as_it_was(path, line, expected) -> None:
    forget()
    changed = edit.set_parameter(LINES, path, "ratio", 2.5)
    lines = LINES.split("\n")
    lines[line] = expected
    assert changed == "\n".join(lines)
    assert edit.set_parameter(changed, path, "ratio", None) == LINES


@pytest.mark.parametrize("path", ["nodes[2].nodes[0]", "nodes[2].nodes[2]"])
def test_a_node_that_is_written_otherwise_is_changed_all_the_same(path) -> None:
    forget()
    changed = edit.set_parameter(LINES, path, "bias", True)
    architecture, problems = parse(changed)
    assert architecture is not None, problems
    node = next(node for here, _, node in architecture.walk() if here == path)
    assert node.params["bias"] is True
    assert "# the second" in changed


@pytest.mark.parametrize("text", [LINES, re.sub(r" +#( b)?.*?(?=[\"\n])", "", LINES)])
def test_lines_that_moved_are_not_mistaken_for_others(text) -> None:
    forget()
    text = edit.set_parameter(text, "nodes[0]", "ratio", 2.0)
    text = edit.add(text, {"use": "gru"}, after="nodes[0]")
    text = edit.set_parameter(text, "nodes[2]", "ratio", 3.0)
    text = edit.set_parameter(text, "nodes[2]", "ratio", 4.0)
    architecture, problems = parse(text)
    assert architecture is not None, problems
    assert [node.params for node in architecture.nodes[:3]] == [{"ratio": 2.0}, {}, {"ratio": 4.0}]


def noted(text: str) -> tuple[str, list[str]]:
    """Return a text with a comment at the end of every line of a node, and the comments."""
    lines, notes = text.split("\n"), []
    for place, line in enumerate(lines):
        if line.lstrip().startswith("- {"):
            notes.append(f"# note {len(notes)}.")
            lines[place] = f"{line}{' ' * (1 + len(notes) % 4)}{notes[-1]}"
    return "\n".join(lines), notes


@pytest.mark.parametrize("seed", range(4))
def test_comments_at_the_ends_of_lines_stay_with_their_nodes_with_and_without_memory(seed) -> None:
    chance = random.Random(seed)
    entry = chance.choice(presets())
    warm, notes = noted(entry.text())
    cold = warm
    assert notes
    for _ in range(8):
        change = chance.choice((*CHANGES, edit.duplicate, lambda text, at: edit.move(text, at, -1)))
        architecture, problems = parse(warm)
        assert architecture is not None, problems
        places = [(at, node) for at, _, node in architecture.walk()]
        path, node = chance.choice(places)
        if node.is_group:
            change = edit.unwrap if chance.random() < 0.5 else edit.wrap
        kept = dict(recent._kept)
        forget()
        cold = change(cold, path)
        forget()
        recent._kept.update(kept)
        warm = change(warm, path)
        assert warm == cold
        assert [warm.count(note) for note in notes] == [1] * len(notes), warm


def test_a_value_set_and_taken_back_gives_the_first_text_with_its_comments() -> None:
    text, _ = noted(presets()[0].text())
    architecture, _ = parse(text)
    assert architecture is not None
    paths = [path for path, _, node in architecture.walk() if not node.is_group]
    changed = text
    for path in paths:
        changed = edit.set_parameter(changed, path, "a_rather_long_name_of_a_parameter", 1)
    for path in reversed(paths):
        changed = edit.set_parameter(changed, path, "a_rather_long_name_of_a_parameter", None)
    assert changed == text
