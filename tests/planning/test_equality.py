"""Bit for bit: steps with recomputation and passes in an arena, for every component and for random architectures.

Hypothesis draws the random ones: 200 of them where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is set, every component in
bfloat16 too; the suite takes a few, the same each time.
"""

from __future__ import annotations

import copy
import os
import random
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.fake_run import concrete_shape
from hybridlab.architecture.infer import Inference, infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.program import program
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.planning.arena.inference import PlannedPass
from hybridlab.planning.arena.trials import same_bits
from hybridlab.planning.recompute import Span
from tests.planning.steps import equal, steps, with_spans

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from random_architectures import drawn_architecture

RANDOM = int(os.environ.get("HYBRIDLAB_RANDOM_ARCHITECTURES", "0"))
SOME = settings(
    max_examples=RANDOM or 3,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""How random hybrids are drawn: deterministically, each for as long as it takes."""
PATIENT = pytest.mark.timeout(max(300, 60 * RANDOM))
CASTS: tuple[torch.dtype | None, ...] = (None, torch.bfloat16) if RANDOM else (None,)
BATCH, LENGTH = 2, 12
TWO = "{id: a, use: mlp}, {id: b, use: swiglu}, {use: NAME, inputs: [a, b]}, {use: mlp}"
HALVES = (
    "{id: a, use: mlp}, {id: half, use: downsample}, {use: swiglu}, {id: in, use: mlp}, "
    "{use: upsample, inputs: [in, a]}"
)
STREAMS = (
    "{id: a, use: mlp}, {id: r, use: hyper_read, inputs: [a], streams: 4}, {id: l, use: swiglu, residual: none}, "
    "{id: w, use: hyper_write, inputs: [a, l], streams: 4}, {use: hyper_read, streams: 4, total: true}"
)
HEAD = "{use: mlp}, {use: NAME}"
OWN = {
    **dict.fromkeys(("cross_attention", "concat", "gated_sum", "sum", "routed_choice"), TWO),
    **dict.fromkeys(("downsample", "upsample"), HALVES),
    **dict.fromkeys(("hyper_read", "hyper_write"), STREAMS),
    **dict.fromkeys(("lm_head", "classifier", "regressor", "sequence_decoder"), HEAD),
    **dict.fromkeys(
        ("token_embedding", "pixel_series", "patch_embedding"), "{use: NAME}, {use: mlp}"
    ),
    "early_exit": "{use: mlp}, {use: early_exit, outputs: 5}, {use: mlp}",
}

INPUTS = {
    "pixel_series": TensorType(TensorKind.SERIES, ("B", "L", 1)),
    "patch_embedding": TensorType(TensorKind.IMAGE, ("B", 1, 8, 8)),
}


def network(use: str) -> Architecture:
    """Return a small network around a component."""
    nodes = OWN.get(use, "{use: mlp}, {use: NAME}, {use: mlp}").replace("NAME", use)
    return loads(f"name: x\nwidth: 32\nnodes: [{nodes}]")


def drawn(inference: Inference) -> Tensor:
    """Draw what an architecture reads."""
    shape = concrete_shape(inference.input, BATCH, LENGTH)
    generator = torch.Generator().manual_seed(0)
    if inference.input.dtype == "int64":
        return torch.randint(32, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def spans_of(count: int, chance: random.Random) -> tuple[Span, ...]:
    """Return random runs of so many places."""
    spans: list[Span] = []
    first: int | None = None
    for place in range(count + 1):
        if first is not None and (place == count or chance.random() < 0.4):
            spans.append((first, place - 1))
            first = None
        if first is None and place < count and chance.random() < 0.8:
            first = place
    return tuple(spans)


def check(
    architecture: Architecture,
    chance: random.Random,
    kind: TensorType | None = None,
    casts: Iterable[torch.dtype | None] = CASTS,
) -> None:
    """Hold a step with runs computed again, and a pass in an arena, against the plain ones."""
    inference = infer(architecture, kind)
    assert not inference.errors
    x = drawn(inference)
    model = build(architecture, kind, seed=0)
    twin: GraphModel = copy.deepcopy(model)
    spans = spans_of(len(program(model).names), chance)
    for cast in casts:
        found = steps(model, x, 1, cast), steps(with_spans(twin, spans), x, 1, cast)
        assert equal(*found), cast
    twin.running = None
    with torch.no_grad():
        planned = PlannedPass(twin.eval(), x)
        other = x.flip(0)
        assert same_bits(planned(other), model.eval()(other))
    assert planned.report.over_bound <= 0.035


@pytest.mark.parametrize("use", list(palette()))
def test_every_component_is_equal_bit_for_bit(use: str) -> None:
    check(network(use), random.Random(len(use)), INPUTS.get(use))


@PATIENT
@SOME
@given(st.randoms(use_true_random=False))
def test_random_architectures_are_equal_bit_for_bit(chance: random.Random) -> None:
    architecture = drawn_architecture(chance)
    note(dump(architecture))
    check(architecture, chance, casts=(None, torch.bfloat16))
