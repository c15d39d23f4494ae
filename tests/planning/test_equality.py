"""Bit for bit: steps with recomputation and passes in an arena, for every component and for random architectures.

All 200 random architectures run where ``HYBRIDLAB_RANDOM_ARCHITECTURES=200`` is set; the suite takes the first few.
"""

from __future__ import annotations

import copy
import os
import random
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
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
from random_architectures import random_architecture

RANDOM = int(os.environ.get("HYBRIDLAB_RANDOM_ARCHITECTURES", "3"))
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


def spans_of(count: int, seed: int) -> tuple[Span, ...]:
    """Return random runs of so many places."""
    chance = random.Random(seed)
    spans: list[Span] = []
    first: int | None = None
    for place in range(count + 1):
        if first is not None and (place == count or chance.random() < 0.4):
            spans.append((first, place - 1))
            first = None
        if first is None and place < count and chance.random() < 0.8:
            first = place
    return tuple(spans)


def check(architecture: Architecture, seed: int, kind: TensorType | None = None) -> None:
    """Hold a step with runs computed again, and a pass in an arena, against the plain ones."""
    inference = infer(architecture, kind)
    assert not inference.errors
    x = drawn(inference)
    model = build(architecture, kind, seed=0)
    twin: GraphModel = copy.deepcopy(model)
    spans = spans_of(len(program(model).names), seed)
    assert equal(steps(model, x, 1), steps(with_spans(twin, spans), x, 1))
    twin.running = None
    with torch.no_grad():
        planned = PlannedPass(twin.eval(), x)
        other = x.flip(0)
        assert same_bits(planned(other), model.eval()(other))
    assert planned.report.over_bound <= 0.035


@pytest.mark.parametrize("use", list(palette()))
def test_every_component_is_equal_bit_for_bit(use: str) -> None:
    check(network(use), len(use), INPUTS.get(use))


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_architectures_are_equal_bit_for_bit(seed: int) -> None:
    check(random_architecture(seed), seed)
