"""A norm's eps for a whole architecture, and weights that two components share."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.infer import check
from hybridlab.architecture.model import build
from hybridlab.errors import SpecError
from hybridlab.trace.predict import predict
from hybridlab.training.weights import read_tensors, write_tensors

TIED = """
name: tied
width: 16
nodes:
  - {use: token_embedding, vocab: 20, std: 0.1}
  - {use: swiglu}
  - {use: lm_head, vocab: 20, tied: true}
"""


def test_one_table_for_both_ends(tmp_path: Path) -> None:
    model = build(loads(TIED), seed=0)
    slots = dict(model.slots())
    table = slots["token_embedding"].body.get_parameter("table.weight")
    assert slots["lm_head"].body.get_parameter("unembedding.weight") is table
    assert table.std().item() == pytest.approx(0.1, rel=0.2)
    twin = dict(copy.deepcopy(model).slots())
    assert twin["lm_head"].body.unembedding.weight is twin["token_embedding"].body.table.weight
    model(torch.randint(20, (2, 5))).sum().backward()
    assert table.grad is not None
    write_tensors(model.state_dict(), tmp_path / "w.safetensors")
    build(loads(TIED), seed=1).load_state_dict(read_tensors(tmp_path / "w.safetensors"))


def test_a_shared_table_is_counted_once_everywhere() -> None:
    architecture = loads(TIED)
    model = build(architecture, seed=0)
    total = sum(parameter.numel() for parameter in model.parameters())
    apart = build(loads(TIED.replace("tied: true", "tied: false")), seed=0)
    assert total == sum(p.numel() for p in apart.parameters()) - 20 * 16
    assert count_parameters(architecture) == total == predict(architecture).params
    assert sum(p.numel() for _, own in model.owned() for p in own) == total


def test_nothing_to_share_or_of_another_shape_is_told() -> None:
    alone = TIED.replace("  - {use: token_embedding, vocab: 20, std: 0.1}\n", "")
    (problem,) = check(loads(alone))
    assert problem.path == "nodes[1]" and "token table" in problem.message
    (problem,) = check(loads(TIED.replace("vocab: 20, std", "vocab: 21, std")))
    assert problem.path == "nodes[2]" and problem.expected == "21 x 16" and problem.got == "20 x 16"


def test_scale_bias_and_cap_of_the_scores() -> None:
    text = TIED.replace("tied: true", "tied: true, bias: true, scale: 0.5, soft_cap: 3.0")
    model = build(loads(text), seed=0)
    tokens = torch.randint(20, (2, 5))
    plain = build(loads(TIED), seed=0)(tokens)
    bias = dict(model.slots())["lm_head"].body.unembedding.bias
    torch.testing.assert_close(model(tokens), 3 * torch.tanh(0.5 * (plain + bias) / 3))


def test_the_norms_of_residuals_take_an_eps() -> None:
    text = TIED.replace("width: 16", "width: 16\nnorm_eps: 0.05")
    architecture = loads(text)
    assert loads(dump(architecture)) == architecture
    assert architecture.fingerprint != loads(TIED).fingerprint
    norm = dict(build(architecture, seed=0).slots())["swiglu"].norm
    assert norm is not None and norm.params.eps == 0.05
    group = loads(
        "name: g\nwidth: 16\nnorm: layer_norm\nnorm_eps: 0.05\n"
        "nodes: [{residual: pre, nodes: [{use: mlp}, {use: mlp}]}]"
    )
    assert build(group).root.group.norm.params.eps == 0.05
    assert predict(architecture).params == predict(loads(TIED)).params


def test_a_wrong_eps_is_refused() -> None:
    for value in ("0", "-1", ".nan", "5"):
        with pytest.raises(SpecError, match="norm_eps"):
            loads(TIED.replace("width: 16", f"width: 16\nnorm_eps: {value}"))


def test_fingerprints_are_those_of_before() -> None:
    assert loads("name: x\nwidth: 16\nnodes: [{use: mlp}]").fingerprint == "33ae6fb2e562ec3d"
