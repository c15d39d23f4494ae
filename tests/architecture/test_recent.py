"""Edits that start from remembered objects give what edits of the text alone would give."""

from __future__ import annotations

import random

import pytest

from hybridlab.architecture import edit, recent
from hybridlab.architecture.document import parse
from hybridlab.architecture.library import presets

CHANGES = (
    lambda text, path: edit.set_parameter(text, path, "residual", "none"),
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
        path = chance.choice([path for path, _, _ in architecture.walk()])
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
