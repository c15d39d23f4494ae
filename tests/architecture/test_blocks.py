"""Groups kept as blocks stand alone and come back whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridlab.architecture import blocks, library
from hybridlab.architecture.document import loads
from hybridlab.errors import SpecError

TEXT = """\
name: t
width: 128
nodes:
  - {id: first, use: attention}
  - id: stage
    repeat: 3
    inputs: [first]
    nodes:
      - {id: a, use: attention, heads: 4}
      - {id: b, use: mamba2, inputs: [input]}
      - {use: sum, inputs: [a, b]}
  - id: tangled
    nodes:
      - {use: sum, inputs: [input, first]}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))


def test_a_group_is_kept_without_what_was_around_it() -> None:
    assert blocks.blocks() == []
    blocks.save_block(TEXT, "nodes[1]", "my heads")
    (entry,) = blocks.blocks()
    assert (entry.name, entry.title) == ("my_heads", "my heads")
    (node,) = loads(entry.text()).nodes
    before = loads(TEXT).nodes[1]
    assert node == before.model_copy(update={"inputs": None})
    assert library.designs() == []
    blocks.delete_block("my_heads")
    assert blocks.blocks() == []


def test_a_name_is_taken_once() -> None:
    blocks.save_block(TEXT, "nodes[1]", "x")
    with pytest.raises(SpecError, match="saved already"):
        blocks.save_block(TEXT, "nodes[1]", "x")
    blocks.save_block(TEXT, "nodes[0]", "x", overwrite=True)
    assert loads(blocks.blocks()[0].text()).nodes[0].use == "attention"


@pytest.mark.parametrize(
    ("path", "name", "sentence"),
    [
        ("nodes[2]", "x", "read 'first' from outside"),
        ("nodes[9]", "x", "no such node"),
        ("nodes[1]", " / ", "needs a name"),
    ],
)
def test_what_cannot_stand_alone_is_told(path: str, name: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        blocks.save_block(TEXT, path, name)
