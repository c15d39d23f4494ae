"""The same pattern, smaller: what shrinks, what stays, and what is left to the task."""

from __future__ import annotations

import pytest

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import loads
from hybridlab.architecture.importers.huggingface import families, read
from hybridlab.architecture.shrink import Sizes, shrink
from hybridlab.tasks.registry import fit, task


@pytest.mark.parametrize("name", list(families()))
def test_every_familys_default_shrinks_and_trains_here(name: str) -> None:
    architecture = read({"model_type": name}).architecture
    small = shrink(architecture)
    assert small.width == 64 and small.norm_eps == architecture.norm_eps
    # MiniMax's 80 layers all differ, so none is left out.
    assert count_parameters(small) < 7_000_000
    assert fit(small, task("python_bytes")).nodes[0].use == "token_embedding"


def test_counts_and_ratios_stay_and_sizes_shrink() -> None:
    text = """
name: big
width: 1024
nodes:
  - {use: token_embedding, vocab: 32000}
  - id: stage
    repeat: 12
    nodes:
      - {use: attention, heads: 16, kv_heads: 4, head_dim: 128, window: 2048}
      - {use: moe, experts: 64, top_k: 8, ratio: 0.5}
      - {use: mamba2, heads: 32, state: 128, groups: 8, conv: 4}
  - {id: late, use: swiglu, ratio: 3.5, inputs: [stage]}
  - {use: rms_norm}
  - {use: lm_head, vocab: 32000, norm: false}
"""
    small = shrink(loads(text), Sizes(width=64, repeat=3))
    assert [node.id for node in small.nodes] == ["stage", "late"]
    attention, moe, mamba = (node.params for node in small.nodes[0].nodes)
    assert attention == {"heads": 4, "kv_heads": 1, "head_dim": 32, "window": 64}
    assert moe == {"experts": 4, "top_k": 4, "ratio": 0.5}
    assert mamba == {"heads": 4, "state": 16, "groups": 1, "conv": 4}
    assert small.nodes[1].params == {"ratio": 3.5}
    assert small.nodes[0].repeat == 3


def test_what_reads_the_embedding_reads_the_tasks() -> None:
    text = """
name: skip
width: 64
nodes:
  - {id: tokens, use: token_embedding, vocab: 100}
  - {use: swiglu}
  - {use: sum, inputs: [swiglu, tokens]}
"""
    assert shrink(loads(text)).nodes[1].inputs == ("swiglu", "input")
