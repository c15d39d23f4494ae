"""bfloat16 in random parts of random hybrids: as far from float32 as rounding explains, and equal where none is set.

How far rounding may carry depends on the network: a retention whose query hardly meets its key, behind a norm, turns
one part in 256 into several. So float32 itself is shaken first, by as much as bfloat16 rounds: the weights of the parts
that are set, what they read and what they give. Outputs and gradients in bfloat16 may be a few times as far as that.

Hypothesis draws the hybrids: 200 of them where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is set; the suite takes a few.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor, nn

from hybridlab.architecture.document import dump
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.planning import turns
from hybridlab.planning.precision.apply import Mixed, odd
from hybridlab.planning.precision.record import Precisions
from tests.planning.test_equality import INPUTS, PATIENT, SOME, drawn, network

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from random_architectures import drawn_architecture

EPSILON = torch.finfo(torch.bfloat16).eps
OUTPUT, GRADIENTS, EACH = 3.0, 10.0, 20.0
"""Largest errors of the output, of all gradients and of each weight's, relative in norm, as multiples of bfloat16's
epsilon and what shaking changes together. Of 400 hybrids the largest were 0.8, 2.5 and 1.7."""
SHAKES = 3
SMALL = 0.01
"""Gradients of a weight below this share of all are judged by that share."""


@dataclass
class Learnt:
    """The output and the gradients of one step."""

    output: Tensor
    gradients: dict[str, Tensor]

    @property
    def whole(self) -> Tensor:
        """All gradients, flat."""
        return torch.cat([one.flatten() for one in self.gradients.values()])


def learnt(model: GraphModel, x: Tensor) -> Learnt:
    """Return what one step gives, from one random state; buffers stay as they are."""
    torch.manual_seed(5)
    with turns.kept_buffers(model.train()):
        output = model(x)
        loss = output.float().square().mean()
        if (asked := model.aux_loss()) is not None:
            loss = loss + asked
        for _, exit in model.exits():
            loss = loss + exit.logits.float().square().mean()
        loss.backward()
    named = model.named_parameters()
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return Learnt(output.detach(), found)


def apart(exact: Tensor, other: Tensor) -> float:
    """Return the norm of a difference over that of the exact values."""
    norm = torch.linalg.vector_norm
    return float(norm((other - exact).double()) / norm(exact.double()).clamp_min(1e-30))


def shaken(
    architecture: Architecture, kind: TensorType | None, some: Sequence[str], seed: int
) -> GraphModel:
    """Build the model with weights, inputs and outputs of some components moved by as much as bfloat16 rounds."""
    model = build(architecture, kind, seed=0)
    generator = torch.Generator().manual_seed(seed)

    def moved(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return x * (1 + EPSILON * (torch.rand(x.shape, generator=generator) - 0.5))

    def reads(module: nn.Module, inputs: Any) -> Any:
        return tuple(map(moved, inputs))

    def gives(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return moved(output)

    slots = dict(model.slots())
    for path in some:
        body = slots[path].body
        with torch.no_grad():
            for weight in body.parameters():
                weight.copy_(moved(weight))
        body.register_forward_pre_hook(reads)
        body.register_forward_hook(gives)
    return model


def ratios(
    architecture: Architecture, some: Sequence[str], kind: TensorType | None = None
) -> tuple[float, float, float]:
    """Return the errors of output, gradients and the worst weight with some components in bfloat16; see ``OUTPUT``.

    With none set, and with all that was set taken away again, everything is equal bit for bit.
    """
    model = build(architecture, kind, seed=0)
    x = drawn(infer(architecture, kind))
    exact = learnt(model, x)
    nothing = Precisions(fingerprint=architecture.fingerprint, training=True, device="cpu")
    for formats in ({}, dict.fromkeys(some, "bfloat16")):
        mixed = Mixed(model, Precisions.read({**nothing.as_dict(), "formats": formats}))
        mixed.on()
        found = learnt(model, x)
        mixed.off()
        if not formats:
            same(found, exact)
    same(learnt(model, x), exact)
    assert found.output.dtype == exact.output.dtype == torch.float32
    assert list(found.gradients) == list(exact.gradients), "gradients are lost"
    twins = [learnt(shaken(architecture, kind, some, seed), x) for seed in range(SHAKES)]
    output = apart(exact.output, found.output)
    output /= EPSILON + max(apart(exact.output, twin.output) for twin in twins)
    gradients = apart(exact.whole, found.whole)
    gradients /= EPSILON + max(apart(exact.whole, twin.whole) for twin in twins)
    norm = torch.linalg.vector_norm
    least, worst = SMALL * float(norm(exact.whole)), 0.0
    for name, one in exact.gradients.items():
        moves = max(float(norm(twin.gradients[name] - one)) for twin in twins)
        allowed = EPSILON * (float(norm(one)) + least) + moves
        worst = max(worst, float(norm(found.gradients[name] - one)) / max(allowed, 1e-30))
    return output, gradients, worst


def same(one: Learnt, other: Learnt) -> None:
    """Hold two steps against each other, bit for bit."""
    assert torch.equal(one.output, other.output)
    assert list(one.gradients) == list(other.gradients)
    for name, gradient in one.gradients.items():
        assert torch.equal(gradient, other.gradients[name]), name


def check(architecture: Architecture, some: Sequence[str], kind: TensorType | None = None) -> None:
    """Refuse errors that rounding does not explain."""
    found = ratios(architecture, some, kind)
    for what, value, most in zip(
        ("output", "gradients", "one weight's"), found, (OUTPUT, GRADIENTS, EACH), strict=True
    ):
        assert value <= most, f"{what}: {value:.2f} times what rounding explains"


def settable(architecture: Architecture, kind: TensorType | None = None) -> list[str]:
    """Return the paths of components that may have a format of their own."""
    return [path for path, slot in build(architecture, kind, seed=0).slots() if not odd(slot.body)]


@pytest.mark.parametrize("use", list(palette()))
def test_every_component_is_as_close_as_its_rounding(use: str) -> None:
    architecture, kind = network(use), INPUTS.get(use)
    uses = {path: slot.use for path, slot in build(architecture, kind, seed=0).slots()}
    mine = [path for path in settable(architecture, kind) if uses[path] == use]
    assert mine or use == "early_exit"
    check(architecture, mine, kind)


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_random_parts_of_random_hybrids_are_as_close_as_their_rounding(
    chance: random.Random,
) -> None:
    architecture = drawn_architecture(chance)
    paths = settable(architecture)
    some = [path for path in paths if chance.random() < 0.5] or paths[:1]
    note(dump(architecture))
    note(", ".join(some))
    check(architecture, some)
