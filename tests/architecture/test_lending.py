"""Nodes and groups that use another place's weights, low-rank pairs for each use, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from hybridlab.architecture import edit
from hybridlab.architecture.blocks import block_text
from hybridlab.architecture.compare import compare
from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.exporters.pytorch import source_of
from hybridlab.architecture.generate import generate
from hybridlab.architecture.infer import check
from hybridlab.architecture.model import build
from hybridlab.architecture.shrink import Sizes, shrink
from hybridlab.components.base import BuildContext
from hybridlab.components.low_rank import AdaptedLinear, adapted
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence
from hybridlab.errors import SpecError
from hybridlab.trace.predict import predict
from hybridlab.training.weights import read_tensors, write_tensors
from tests.architecture.test_exporters import TOKENS, same

FAR = """
name: far
width: 16
nodes:
  - {id: tokens, use: token_embedding, vocab: 20}
  - id: first
    nodes:
      - {id: joined, use: concat, project: false, inputs: [input, tokens]}
      - id: block
        nodes:
          - {use: attention, heads: 2, residual: none, lora: 2}
          - {use: swiglu}
      - {use: linear, residual: none}
  - id: layers
    repeat: 3
    nodes:
      - {use: gru}
      - id: again
        nodes:
          - {id: joined, use: concat, project: false, inputs: [input, tokens]}
          - id: block
            share: first.block
            nodes:
              - {use: attention, heads: 2, residual: none, lora: 3}
              - {use: swiglu}
          - {use: linear, residual: none}
  - {use: lm_head, vocab: 20}
"""
TIED = """
name: tied
width: 16
nodes:
  - {use: token_embedding, vocab: 20}
  - id: stage
    repeat: 3
    tie: true
    residual: pre
    nodes:
      - {use: attention, heads: 2, lora: 2}
      - {use: swiglu}
  - {use: lm_head, vocab: 20}
"""
PLAIN = """
name: plain
width: 16
nodes:
  - {id: one, use: swiglu}
  - {id: two, use: swiglu, share: one}
  - {id: three, use: moe, experts: 2, top_k: 1, routing: sigmoid}
  - {id: four, use: moe, experts: 2, top_k: 1, routing: sigmoid, share: three}
"""


def randomised(text: str) -> torch.nn.Module:
    """Return a model whose low-rank pairs are not zero any more."""
    model = build(loads(text), seed=0).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_()
    return model


def test_one_set_of_weights_at_distant_places_and_a_pair_for_each_use() -> None:
    model = randomised(FAR)
    slots = dict(model.slots())
    first = slots["first.block.attention"].body
    for repeat in range(3):
        again = slots[f"layers.{repeat}.again.block.attention"].body
        for name in ("project_in.weight", "project_out.weight"):
            assert again.state_dict(keep_vars=True)[name] is first.state_dict(keep_vars=True)[name]
        assert again.project_in.up is not first.project_in.up
        assert again.project_in.down.shape == (9, 32) and first.project_in.down.shape == (6, 32)
        swiglu = slots[f"layers.{repeat}.again.block.swiglu"]
        assert swiglu.norm.scale is slots["first.block.swiglu"].norm.scale
    linears = {id(slots[f"layers.{i}.again.linear"].body.map.weight) for i in range(3)}
    assert len(linears) == 3, "what is not shared is each repeat's own"
    twin = dict(copy.deepcopy(model).to(torch.float64).slots())
    weights = {
        id(twin[path].body.state_dict(keep_vars=True)["project_in.weight"])
        for path in twin
        if path.endswith("block.attention")
    }
    assert len(weights) == 1


@pytest.mark.parametrize("text", [FAR, TIED, PLAIN])
def test_shared_weights_are_counted_once_everywhere(text: str) -> None:
    architecture = loads(text)
    model = build(architecture, seed=0)
    total = sum(p.numel() for p in model.parameters())
    assert count_parameters(architecture) == total == predict(architecture).params
    owned = [p for _, own in model.owned() for p in own]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters()}
    assert sum(p.numel() for p in owned) == total


def test_time_and_flops_are_those_of_every_use() -> None:
    apart = FAR.replace("            share: first.block\n", "")
    shared, own = predict(loads(FAR)), predict(loads(apart))
    assert shared.flops_step == own.flops_step and shared.params < own.params
    assert shared.peak_bytes < own.peak_bytes


@pytest.mark.parametrize("text", [FAR, TIED])
def test_it_writes_as_it_reads_and_exports(text: str, tmp_path: Path) -> None:
    architecture = loads(text)
    assert loads(dump(architecture)) == architecture
    model = randomised(text)
    tokens = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, whole = model.start(2), model(tokens)
        for t, token in enumerate(tokens.unbind(1)):
            logits, states = model.step(states, token)
            torch.testing.assert_close(logits, whole[:, t], rtol=1e-4, atol=1e-5)
    assert generate(model, tokens, 3).shape == (2, 3)
    write_tensors(model.state_dict(), tmp_path / "w.safetensors")
    again = build(architecture, seed=1).eval()
    again.load_state_dict(read_tensors(tmp_path / "w.safetensors"))
    assert torch.equal(again(tokens), whole)
    file = same(architecture, TOKENS, tmp_path / "exported.py")
    assert "class AdaptedLinear" in file and "def adapts" not in file
    assert source_of(architecture, TOKENS) == file


def test_tied_repeats_with_pairs_are_one_block_but_for_the_pairs() -> None:
    plain = build(loads(TIED.replace(", lora: 2", "")), seed=0).eval()
    model = build(loads(TIED), seed=0).eval()
    weights = {
        name.replace("stage.body", "stage.0"): tensor for name, tensor in plain.state_dict().items()
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(
        "stage.0" not in name or name.endswith((".down", ".up")) for name in missing
    )
    tokens = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens), plain(tokens))
    pair = dict(model.slots())["stage.2.attention"].body.project_in
    torch.nn.init.normal_(pair.up)
    assert (model(tokens) - plain(tokens)).abs().max() > 1e-2
    model(tokens).sum().backward()
    lent = dict(model.slots())["stage.0.attention"].body.project_in
    assert (
        lent._parameters["weight"].grad is not None
        and pair.down.grad is not None
        and lent.up.grad is not None
    )


def test_buffers_are_shared_too_and_stay_so() -> None:
    model = build(loads(PLAIN), seed=0).to(torch.float64)
    slots = dict(model.slots())
    assert slots["four"].body.selection_bias is slots["three"].body.selection_bias
    assert slots["two"].norm.scale is slots["one"].norm.scale


@pytest.mark.parametrize("name", [n for n, info in palette().items()])
def test_a_pair_is_the_same_as_its_product_in_the_map(name: str) -> None:
    """Whichever component: what it computes with a pair is what it computes with W + B A for W."""
    cls = palette()[name].cls
    params = cls.Params()
    kinds = tuple(sequence(32, length) for length in cls.input_lengths(params))
    if any(kind.kind not in cls.accepts for kind in kinds):
        return
    torch.manual_seed(0)
    module = cls(params, BuildContext(kinds, 32)).eval()
    merged = copy.deepcopy(module)
    maps = module.adapts()
    if not maps:
        return
    adapted(module, 2, maps)
    with torch.no_grad():
        for path in maps:
            pair = module.get_submodule(path)
            assert isinstance(pair, AdaptedLinear) and sum(pair.rows) == pair.up.shape[0]
            pair.up.normal_(std=0.3)
            downs, ups = pair.down.split(2), pair.up.split(pair.rows)
            product = torch.cat([up @ down for up, down in zip(ups, downs, strict=True)])
            merged.get_submodule(path).weight += product
        inputs = [torch.randn(2, 8, 32) for _ in kinds]
        before = cls(params, BuildContext(kinds, 32)).eval()
        before.load_state_dict(
            {k: v for k, v in module.state_dict().items() if not k.endswith((".down", ".up"))}
        )
        expected = merged(*inputs)
        torch.testing.assert_close(module(*inputs), expected, rtol=1e-3, atol=1e-4)
        if module.causal(params) and name != "downsample":
            steps = [
                one.step(one.start(2), *(x[:, 0] for x in inputs))[0] for one in (module, merged)
            ]
            torch.testing.assert_close(*steps, rtol=1e-3, atol=1e-4)
        without, ends = before(*inputs), merged.exit()
        if ends is not None:  # what it passes on is not what it computes
            without, expected = before.exit().logits, ends.logits
            torch.testing.assert_close(module.exit().logits, expected, rtol=1e-3, atol=1e-4)
        assert (without - expected).abs().max() > 1e-4, "the pair changes nothing"


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (("share: first.block", "share: frist.block"), "share", "did you mean 'first'"),
        (("share: first.block", "share: first.blok"), "share", "did you mean 'block'"),
        (
            ("share: first.block", "share: tokens.block"),
            "share",
            "no node of this name in 'tokens'",
        ),
        (("share: first.block", "share: first"), "nodes[1]", "list of nodes is another"),
        (
            ("heads: 2, residual: none, lora: 3", "heads: 4, residual: none, lora: 3"),
            "heads",
            "heads 2",
        ),
        (("use: gru}", "use: gru, lora: 2}"), "lora", "no linear map"),
        (("id: first\n", "id: first\n    repeat: 2\n"), "share", "in each of its 2 repeats"),
        (
            (
                "use: swiglu}\n      - {use: linear, residual: none}\n  - id: layers",
                "use: mlp}\n      - {use: linear, residual: none}\n  - id: layers",
            ),
            "nodes[1]",
            "list of nodes",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(change: tuple[str, str], path: str, words: str) -> None:
    text = FAR.replace(*change)
    assert text != FAR
    errors = [problem for problem in check(loads(text)) if problem.severity == "error"]
    assert len(errors) == 1, [p.sentence() for p in errors]
    assert path in errors[0].path and words in errors[0].sentence(), errors[0].sentence()


def test_a_pair_beside_weights_that_nobody_shares_is_told_and_no_edit_loses_it() -> None:
    text = PLAIN.replace("{id: one, use: swiglu}", "{id: one, use: swiglu, lora: 2}")
    assert not check(loads(text)) and not check(loads(TIED)) and not check(loads(FAR))
    alone = text.replace(", share: one", "")
    (problem,) = check(loads(alone))
    assert (problem.path, problem.severity) == ("nodes[0].lora", "warning")
    assert "no other place uses" in problem.sentence() and "remove lora" in problem.sentence()
    twice = loads(
        alone.replace("nodes:\n", "nodes:\n  - {repeat: 2, nodes: [{use: mlp, lora: 2}]}\n")
    )
    assert [one.path for one in check(twice)] == ["nodes[0].nodes[0].lora", "nodes[1].lora"]
    for change in (
        edit.duplicate,
        edit.wrap,
        lambda text, at: edit.unwrap(edit.wrap(text, at), at),
    ):
        assert change(alone, "nodes[0]").count("lora: 2") == 1 + (change is edit.duplicate)
    for made in (
        edit.rename(alone, "nodes[0]", "first"),
        edit.replace(alone, "nodes[0]", "mlp", []),
        edit.move(alone, "nodes[0]", 2),
        edit.carry(alone, "nodes[0]", "nodes[3]", {"use": "swiglu", "lora": 2}),
    ):
        assert "lora: 2" in made


def test_a_circle_and_another_component_are_refused() -> None:
    text = PLAIN.replace("{id: one, use: swiglu}", "{id: one, use: swiglu, share: two}")
    messages = [problem.message for problem in check(loads(text))]
    assert "nodes share weights in a circle, so none has them" in messages
    (problem,) = check(loads(PLAIN.replace("id: two, use: swiglu", "id: two, use: mlp")))
    assert problem.path == "nodes[1]" and (problem.expected, problem.got) == ("swiglu", "mlp")
    with pytest.raises(SpecError, match="belongs to components"):
        loads(TIED.replace("    tie: true\n", "    tie: true\n    lora: 2\n"))


def test_texts_are_compared_and_edited_with_what_they_share() -> None:
    changed = loads(PLAIN.replace("share: one}", "share: one, lora: 4}"))
    found = compare(loads(PLAIN), changed)
    assert [c.key for change in found.nodes for c in change.fields] == ["lora"]
    assert loads(PLAIN).fingerprint != loads(PLAIN.replace(", share: one", "")).fingerprint
    renamed = edit.rename(FAR, "nodes[1]", "begin")
    assert "share: begin.block" in renamed and not check(loads(renamed))
    bare = "name: x\nwidth: 16\nnodes: [{use: mlp}, {use: mlp, share: mlp}]"
    moved = edit.add(bare, {"use": "mlp"}, into=None)
    moved = edit.move(moved, "nodes[2]", -2)
    assert loads(moved).nodes[2].share == "mlp" and loads(moved).nodes[1].id == "mlp"


def test_a_block_is_kept_without_what_it_shared_from_outside() -> None:
    plain = loads(block_text(PLAIN, "nodes[1]", "kept"))
    assert plain.nodes[0].share is None and not check(plain)
    with pytest.raises(SpecError, match="read 'first'"):
        block_text(FAR.replace(", inputs: [input, tokens]}", "}"), "nodes[2]", "kept")


def test_a_smaller_one_still_shares() -> None:
    small = shrink(loads(FAR), Sizes(width=8))
    assert small.nodes[0].use == "skip" and small.nodes[0].id == "tokens"
    assert small.nodes[2].nodes[1].nodes[1].share == "first.block"
    assert build(small, seed=0)
