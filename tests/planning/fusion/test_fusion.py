"""Fused models against plain ones: outputs, gradients, updates and single positions, over the palette and at random.

Hypothesis draws the random ones: 200 of them where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is set; the suite takes a
few, the same each time.
"""

from __future__ import annotations

import copy
import random
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor, nn

from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.program import program
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.errors import RunError
from hybridlab.planning.fusion.apply import Fused
from hybridlab.planning.fusion.find import find, together
from hybridlab.planning.fusion.record import Fold, Fusion
from hybridlab.planning.recompute import Recomputing
from tests.planning.test_equality import INPUTS, PATIENT, SOME, drawn, network

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from random_architectures import drawn_architecture

CLOSE = 1e-9
"""Largest difference in float64 against the largest value: rounding alone, wherever a scale or a row is out of place
it is many orders more."""
PARALLEL = """
name: x
width: 32
nodes:
  - {use: token_embedding, vocab: 32}
  - id: block
    repeat: 2
    nodes:
      - id: both
        residual: pre
        nodes:
          - {id: a, use: attention, heads: 4, inputs: [input], residual: none}
          - {id: m, use: mamba2, state: 8, heads: 4, inputs: [input], residual: none}
          - {use: sum, inputs: [a, m]}
      - {use: swiglu}
"""
BRANCHES = """
name: x
width: 32
nodes:
  - {id: given, use: token_embedding, vocab: 32}
  - {id: a, use: mlp, inputs: [given]}
  - {id: b, use: gated_linear_attention, heads: 2, inputs: [given]}
  - {use: sum, inputs: [a, b]}
"""


def made(architecture: Architecture, kind: TensorType | None = None) -> tuple[GraphModel, Tensor]:
    """Build in float64, no scale at one and no shift at zero, and draw what it reads."""
    inference = infer(architecture, kind)
    assert not inference.errors
    model = build(architecture, kind, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.1 * noise
    x = drawn(inference)
    return model, x.double() if x.is_floating_point() else x


def all_of(model: GraphModel, x: Tensor, *, training: bool) -> Fused | None:
    """Return everything that can be fused; None where there is nothing."""
    found = find(model, (x,), training=training)
    return (
        Fused(model, together([one.fusion for one in found.candidates]))
        if found.candidates
        else None
    )


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference against the largest value."""
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-30))


def learnt(model: GraphModel, x: Tensor) -> list[Tensor]:
    """Return the output and all gradients of one step, and leave the model as it was."""
    buffers = copy.deepcopy(dict(model.named_buffers()))
    model.train()
    torch.manual_seed(5)
    output = model(x)
    loss = output.square().mean()
    if (asked := model.aux_loss()) is not None:
        loss = loss + asked
    loss.backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return [output.detach(), torch.cat(found)] if found else [output.detach()]


def check(architecture: Architecture, kind: TensorType | None = None) -> None:
    """Hold the model with everything fused against the plain one, for inference and in training."""
    model, x = made(architecture, kind)
    weights = {name: one.data_ptr() for name, one in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        plain = model(x)
        fused = all_of(model, x, training=False)
        if fused is not None:
            fused.on()
            assert apart(plain, model(x)) <= CLOSE
            assert {name: one.data_ptr() for name, one in model.state_dict().items()} == weights
            fused.off()
            assert fused.wasted() == 0
        assert torch.equal(model(x), plain)
    before = learnt(model, x)
    fused = all_of(model, x, training=True)
    if fused is not None:
        fused.on()
        assert all(apart(*pair) <= CLOSE for pair in zip(before, learnt(model, x), strict=True))
        fused.off()
    assert all(map(torch.equal, before, learnt(model, x)))


@pytest.mark.parametrize("use", list(palette()))
def test_every_component_gives_the_same_fused(use: str) -> None:
    check(network(use), INPUTS.get(use))


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_random_architectures_give_the_same_fused(chance: random.Random) -> None:
    architecture = drawn_architecture(chance)
    note(dump(architecture))
    check(architecture)


def test_components_that_read_one_tensor_become_one_product() -> None:
    model, x = made(loads(PARALLEL))
    found = find(model, (x,), training=True)
    groups = {group for one in found.candidates for group in one.fusion.products}
    maps = {
        tuple(f"root.block.{at}.both.body.{name}.body.project_in" for name in "am") for at in "01"
    }
    assert maps <= groups
    assert not any(one.fusion.folds for one in found.candidates)
    folds = {
        norm
        for one in find(model, (x,), training=False).candidates
        for fold in one.fusion.folds
        for norm in fold.norms
    }
    assert {"root.block.0.both.norm", "root.block.1.swiglu.norm"} <= folds


def test_branches_with_norms_of_their_own_share_the_bare_norm_and_the_product() -> None:
    model, x = made(loads(BRANCHES))
    found = find(model, (x,), training=False)
    groups = [group for one in found.candidates for group in one.fusion.products]
    wide = max(groups, key=len)
    assert {name.split(".")[1] for name in wide} == {"a", "b"}
    (fold,) = [f for one in found.candidates for f in one.fusion.folds if len(f.norms) == 2][:1]
    assert {name.split(".")[1] for name in fold.norms} == {"a", "b"}
    assert not any(
        {name.split(".")[1] for name in group} == {"a", "b"}
        for one in find(model, (x,), training=True).candidates
        for group in one.fusion.products
    )
    model.eval()
    fused = all_of(model, x, training=False)
    assert fused is not None
    with torch.no_grad():
        plain = model(x)
        fused.on()
        assert apart(plain, model(x)) <= CLOSE and fused.wasted() == 0


def test_a_norm_that_others_read_is_not_folded_and_said_why() -> None:
    model, x = made(
        loads("name: x\nwidth: 32\nnodes: [{use: token_embedding, vocab: 32}, {use: moe}]")
    )
    found = find(model, (x,), training=False)
    (refused,) = [one for one in found.refused if one.path == "root.moe.norm"]
    assert "not by linear maps alone" in refused.why
    assert not any("moe's norm" in one.name for one in found.candidates)


def test_what_was_learnt_fused_goes_on_plain() -> None:
    model, x = made(loads(PARALLEL))
    plain = copy.deepcopy(model)
    fused = all_of(model, x, training=True)
    assert fused is not None
    fused.on()
    optimisers = [torch.optim.AdamW(one.parameters(), lr=1e-3) for one in (model, plain)]

    def update(one: GraphModel, optimiser: torch.optim.Optimizer) -> None:
        one.train()
        one(x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    for _ in range(3):
        for one, optimiser in zip((model, plain), optimisers, strict=True):
            update(one, optimiser)
    other = build(loads(PARALLEL), seed=7).double()
    other.load_state_dict(model.state_dict())
    again = torch.optim.AdamW(other.parameters(), lr=1e-3)
    again.load_state_dict(optimisers[0].state_dict())
    update(other, again)
    update(plain, optimisers[1])
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert apart(one.detach(), two.detach()) <= 1e-7, (
            name
        )  # the root of small moments enlarges rounding


def test_single_positions_and_recomputation_run_fused() -> None:
    model, x = made(loads(PARALLEL))
    whole = program(model)
    before = learnt(model, x)
    training = all_of(model, x, training=True)
    assert training is not None
    training.on()
    model.running = Recomputing(whole, ((1, 3), (5, 6)))
    assert all(apart(*pair) <= CLOSE for pair in zip(before, learnt(model, x), strict=True))
    model.running = None
    training.off()
    model.eval()
    fused = all_of(model, x, training=False)
    assert fused is not None
    with torch.no_grad():
        plain = model(x)
        fused.on()
        states, found = model.start(len(x)), []
        for place in range(x.shape[1]):
            y, states = model.step(states, x[:, place])
            found.append(y)
    assert apart(plain, torch.stack(found, dim=1)) <= 1e-7


def test_a_fusion_for_inference_refuses_to_train() -> None:
    model, x = made(loads(PARALLEL))
    fused = all_of(model, x, training=False)
    assert fused is not None
    fused.on()
    with pytest.raises(RunError, match="made for inference"):
        model.train()(x)
    with pytest.raises(RunError, match="made for inference"):
        model.eval()(x)


def test_two_fusions_at_once_are_refused() -> None:
    model, x = made(loads(PARALLEL))
    one, other = (all_of(model, x, training=True) for _ in range(2))
    assert one is not None and other is not None
    one.on()
    with pytest.raises(RunError, match="another one"):
        other.on()
    one.off()
    other.on()


def test_bad_fusions_are_told_at_once() -> None:
    model, _ = made(loads(PARALLEL))
    mark = model.architecture.fingerprint
    with pytest.raises(RunError, match="another architecture"):
        Fused(model, Fusion(fingerprint="other"))
    good, norm = "root.block.0.swiglu.body.project_in", "root.block.0.swiglu.norm"
    fusion = Fusion(
        fingerprint=mark,
        training=True,
        products=((good,), (good, "root.nothing"), ("root.block.0.swiglu",)),
        folds=(Fold(norms=(norm, good), maps=((good,),)),),
    )
    with pytest.raises(RunError) as raised:
        Fused(model, fusion)
    said = " | ".join(problem.sentence() for problem in raised.value.problems)
    for what in (
        "for inference",
        "fused twice",
        "root.nothing",
        "no linear map",
        "no norm whose",
        "each of its norms",
    ):
        assert what in said


def test_a_fusion_is_kept_in_a_file(tmp_path: Path) -> None:
    model, x = made(loads(PARALLEL))
    fused = all_of(model, x, training=False)
    assert fused is not None
    file = tmp_path / "fusion.json"
    fused.fusion.save(file)
    assert Fusion.load(file) == fused.fusion
    for text in ("{}", "no", '{"fingerprint": "x", "more": 1}'):
        file.write_text(text)
        with pytest.raises(RunError):
            Fusion.load(file)
    with pytest.raises(RunError, match="cannot be read"):
        Fusion.load(tmp_path / "none.json")


def test_linear_maps_stay_linear_maps() -> None:
    model, x = made(loads(PARALLEL))
    fused = all_of(model, x, training=True)
    assert fused is not None
    before = {name: type(one) for name, one in model.named_modules()}
    fused.on()
    assert sum(type(one) is not before[name] for name, one in model.named_modules()) > 0
    assert all(isinstance(one, before[name]) for name, one in model.named_modules())
    fused.off()
    assert {name: type(one) for name, one in model.named_modules()} == before
    assert not any(
        "_together" in one.__dict__ for one in model.modules() if isinstance(one, nn.Linear)
    )
