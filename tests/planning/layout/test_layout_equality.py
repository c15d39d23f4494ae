"""Models laid out at random against plain ones: hand-overs turned, sequences within by channels, convolutions' forms.

What is handed over is the same to the bit. What reads it may add in another order, which is rounding: outputs and
gradients are held in float64 within 1e-9. What is chosen with ``exact`` changes no bit of either: that is held in
float32, on other values than those it was chosen on, with every other way made to look faster. Hypothesis draws the
random ones: 200 of them where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is set; the suite takes a few, the same each time.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import event, given, note
from hypothesis import strategies as st

from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.components.channel_major import LAYOUTS
from hybridlab.components.depthwise import FORMS
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.planning import turns
from hybridlab.planning.layout.hand_over import laid
from hybridlab.planning.tuning.apply import Tuned
from hybridlab.planning.tuning.knobs import KNOBS
from hybridlab.planning.tuning.measure import choose_tuning
from hybridlab.planning.tuning.record import Tuning
from hybridlab.trace.step import TrainingStep
from tests.planning.fusion.test_fusion import CLOSE, apart, learnt, made
from tests.planning.test_equality import INPUTS, PATIENT, SOME, network

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from random_architectures import drawn_architecture

VALUES = {"convolution": FORMS, "layout": LAYOUTS}


def tuning_of(model: GraphModel, chance: random.Random, share: float) -> Tuning:
    """Draw how a model is laid out: everything with a share of 1, nothing with 0."""
    slots = dict(model.slots())
    hand_over = {
        path: "channels"
        for path, slot in slots.items()
        if slot.body.gives is TensorKind.SEQUENCE and chance.random() < share
    }
    content: dict[str, object] = {
        "fingerprint": model.architecture.fingerprint,
        "hand_over": hand_over,
    }
    for knob in KNOBS:
        if knob.lays:
            content[knob.name] = {
                path: chance.choice([one for one in VALUES[knob.name] if one != knob.at(slot.body)])
                for path, slot in slots.items()
                if knob.has(slot.body) and chance.random() < share
            }
    return Tuning.read(content)


def check(
    architecture: Architecture,
    chance: random.Random,
    kind: TensorType | None = None,
    share: float = 0.5,
) -> int:
    """Hold a model laid out otherwise against itself, for inference and in training; return how much was."""
    model, x = made(architecture, kind)
    tuned = Tuned(model, tuning_of(model, chance, share))
    before = learnt(model, x)
    with torch.no_grad():
        plain = model.eval()(x)
        tuned.on()
        assert apart(plain, model(x)) <= CLOSE
    found = learnt(model, x)
    tuned.off()
    assert len(found) == len(before)
    assert all(one.shape == other.shape for one, other in zip(before, found, strict=True))
    assert all(apart(*pair) <= CLOSE for pair in zip(before, found, strict=True))
    assert all(map(torch.equal, before, learnt(model, x)))
    return tuned.tuning.count


@pytest.mark.parametrize("use", list(palette()))
def test_every_component_gives_the_same_laid_out(use: str) -> None:
    assert check(network(use), random.Random(len(use)), INPUTS.get(use), share=1)


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_random_architectures_give_the_same_laid_out(chance: random.Random) -> None:
    architecture = drawn_architecture(chance)
    note(dump(architecture))
    check(architecture, chance)


def faster_in_turns(step: TrainingStep, variants: list[object], rounds: int) -> list[list[float]]:
    """Stand for the clock: every other way takes half of the time, the more of it by channels the less."""
    ways = [getattr(one, "given", ()) for one in variants]
    turned = [sum(x.dim() == 3 and x.stride(1) == 1 for x in given) for given in ways]
    outward = [getattr(one, "output", None) == "channels" for one in variants]
    given = [len(one.tuning.hand_over) if isinstance(one, Tuned) else 0 for one in variants]
    sides = zip(turned, outward, given, strict=True)
    times = [0.5 - 0.1 * a - 0.1 * b - 0.1 * bool(c) for a, b, c in sides]
    return [[1.0] * 7, *([ms] * 7 for ms in times)]


def check_exact(architecture: Architecture, kind: TensorType | None = None) -> int:
    """Choose layouts that change no bit for steps of training, hold them to that, and return how many were chosen."""
    model, x = made(architecture, kind)
    model, other = model.float(), x
    if x.is_floating_point():
        x = x.float()
        other = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    loss = lambda output: output.square().mean()  # noqa: E731
    step = TrainingStep(model, (x,), loss=loss)
    with mock.patch.object(turns, "in_turns", faster_in_turns):
        lays = [knob for knob in KNOBS if knob.lays]
        found = choose_tuning(step, rounds=7, knobs=lays, hand_overs=True, exact=True)
    assert found.tolerance == 0 and (found.error == 0 or not found.applied)
    tuned = Tuned(model, found.tuning)
    plain = learnt(model.train(), other)
    tuned.on()
    assert all(map(torch.equal, plain, learnt(model.train(), other)))
    tuned.off()
    return found.tuning.count


@pytest.mark.parametrize("use", list(palette()))
def test_what_is_chosen_to_keep_bits_does_so_for_every_component(use: str) -> None:
    check_exact(network(use), INPUTS.get(use))


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_what_is_chosen_to_keep_bits_does_so_for_random_architectures(
    chance: random.Random,
) -> None:
    architecture = drawn_architecture(chance)
    note(dump(architecture))
    event("something turned" if check_exact(architecture) else "nothing turned")


def test_what_changes_bits_is_turned_only_where_rounding_is_allowed() -> None:
    nodes = "[{id: a, use: short_conv}, {id: b, use: short_conv}]"
    model, x = made(loads(f"name: x\nwidth: 16\nnodes: {nodes}"))
    step = TrainingStep(model.float(), (x.float(),), loss=lambda output: output.square().mean())
    with mock.patch.object(turns, "in_turns", faster_in_turns):
        rounded = choose_tuning(step, rounds=7, hand_overs=True)
        kept = choose_tuning(step, rounds=7, hand_overs=True, exact=True)
    assert rounded.applied and 0 < rounded.error <= rounded.tolerance
    assert all(one.channels_ms is not None for one in rounded.hand_overs)
    assert any(one.channels_ms is None for one in kept.hand_overs) and kept.tolerance == 0
    tried = [one for judged in kept.judged for one in judged.tried]
    assert any("changes bits, by up to" in one.why for one in tried)
    assert not kept.applied or kept.error == 0


@SOME
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_what_is_handed_over_is_the_same_to_the_bit(
    batch: int, length: int, width: int, seed: int
) -> None:
    x_BLD = torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))
    by_channels = laid(x_BLD, "channels")
    assert torch.equal(by_channels, x_BLD) and torch.equal(laid(by_channels, "tokens"), x_BLD)
    assert laid(x_BLD, "tokens").is_contiguous() and by_channels.permute(2, 0, 1).is_contiguous()
