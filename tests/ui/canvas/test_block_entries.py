"""Saved blocks are in the canvas's palette, each with the node that is put in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridlab.architecture import blocks
from hybridlab.architecture.document import loads
from hybridlab.architecture.edit import EMPTY, insert
from hybridlab.ui.canvas.block_entries import block_entries

TEXT = """\
name: t
width: 64
nodes:
  - id: stage
    repeat: 3
    nodes:
      - {id: a, use: attention, heads: 4}
      - {id: b, use: attention, inputs: [input]}
      - {use: sum, inputs: [a, b]}
  - {use: swiglu}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_saved_block_is_an_entry_whose_node_makes_the_same_group() -> None:
    assert block_entries() == []
    blocks.save_block(TEXT, "nodes[0]", "<b>two heads</b>")
    (entry,) = block_entries()
    assert (entry["name"], entry["kind"]) == ("block:b_two_heads_b", "block")
    assert (entry["title"], entry["summary"]) == ("<b>two heads</b>", "2 attention, sum; × 3")
    assert loads(insert(EMPTY, "nodes[0]", entry["node"])).nodes == loads(TEXT).nodes[:1]
    blocks.delete_block("b_two_heads_b")
    assert block_entries() == []


def test_a_block_is_read_again_when_its_file_changed_and_left_out_when_it_is_broken(
    home: Path,
) -> None:
    blocks.save_block(TEXT, "nodes[0]", "x")
    blocks.save_block(TEXT, "nodes[1]", "y")
    assert [entry["summary"] for entry in block_entries()] == ["2 attention, sum; × 3", "swiglu"]
    file = home / "blocks" / "x.yaml"
    file.write_text("name: x\nnodes: [{use: attention, nodes: 5}]\n", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert [entry["name"] for entry in block_entries()] == ["block:y"]
    file.write_bytes(b"\xff\xfe\x00")
    os.utime(file, ns=(2, 2))
    assert [entry["name"] for entry in block_entries()] == ["block:y"]
