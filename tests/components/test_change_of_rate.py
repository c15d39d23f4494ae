"""Symbolic lengths and changes of rate: what a block sees, when it is read, and what comes back to every position."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import check, infer
from hybridlab.architecture.model import build as build_model
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.lengths import concrete, divided, share_of, written
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence
from hybridlab.errors import StepError, TaskError
from hybridlab.tasks.fit import fit
from hybridlab.tasks.registry import task
from hybridlab.trace.predict import predict

Build = Callable[..., Component]


def sentences(name: str, context: BuildContext, **params: Any) -> list[str]:
    cls = palette()[name].cls
    return [problem.sentence() for problem in cls.check(cls.Params(**params), context)]


def test_lengths_are_divided_rounding_up() -> None:
    assert [divided("L", 2), divided("L/2", 3), divided(7, 2)] == ["L/2", "L/6", 4]
    assert written(Fraction(3, 2)) == "3/2*L" and share_of("3/2*L") == Fraction(3, 2)
    assert [concrete("L", 7), concrete("L/2", 7), concrete("3/2*L", 7), concrete(5, 7)] == [
        *(7, 4, 11, 5)
    ]
    for length in range(1, 60):
        for a, b in ((2, 2), (3, 2), (4, 5)):
            twice = divided(divided(length, a), b)
            assert concrete(divided(divided("L", a), b), length) == twice
            assert twice == math.ceil(math.ceil(length / a) / b)


HOURGLASS = """
name: x
width: 16
nodes:
  - {id: top, use: short_conv}
  - {id: half, use: downsample, method: METHOD}
  - {id: inside, use: attention, heads: 2}
  - {id: quarter, use: downsample}
  - {id: slow, use: lstm}
  - {id: back, use: upsample, inputs: [slow, inside], method: UP}
  - {id: out, use: upsample, inputs: [back, top], method: UP}
  - {id: last, use: mlp}
"""


def hourglass(method: str = "mean", up: str = "repeat") -> str:
    return HOURGLASS.replace("METHOD", method).replace("UP", up)


@pytest.mark.parametrize("probe", [1, 2, 3, 17, 64])
def test_lengths_go_down_and_up_again(probe: int) -> None:
    inference = infer(loads(hourglass()), length=probe)
    assert inference.problems == ()
    lengths = {path: kind.shape[1] for path, kind in inference.edges.items()}
    assert list(lengths.items()) == [
        *(("top", "L"), ("half", "L/2"), ("inside", "L/2"), ("quarter", "L/4")),
        *(("slow", "L/4"), ("back", "L/2"), ("out", "L"), ("last", "L")),
    ]


@pytest.mark.parametrize(("method", "up"), [("mean", "repeat"), ("last", "conv"), ("conv", "conv")])
@pytest.mark.parametrize("length", [1, 2, 3, 13, 16])
def test_the_way_down_and_up_is_causal(method: str, up: str, length: int) -> None:
    """Whatever comes after t leaves what stands at t or before as it was; and something does arrive."""
    model = build_model(loads(hourglass(method, up)), seed=0)
    x = torch.randn(2, length, 16)
    before = model(x)
    assert before.shape == (2, length, 16)
    for t in range(length - 1):
        changed = x.clone()
        changed[:, t + 1 :] = 7.5
        apart = (model(changed) - before).abs().amax((0, 2))
        assert apart[: t + 1].max() < 1e-5 and apart[t + 1 :].max() > 1e-2


@pytest.mark.parametrize("stride", [2, 3, 5])
@pytest.mark.parametrize("method", ["mean", "last", "conv"])
def test_a_block_sees_itself_alone(method: str, stride: int, build: Build) -> None:
    module = build("downsample", width=4, stride=stride, method=method)
    for length in (1, 2, 11):
        x = torch.randn(1, length, 4, requires_grad=True)
        y = module(x)
        assert y.shape[1] == -(-length // stride)
        for j in range(y.shape[1]):
            (grad,) = torch.autograd.grad(y[:, j].sum(), x, retain_graph=True)
            seen = set((grad.abs().sum(-1)[0] > 0).nonzero().flatten().tolist())
            block = set(range(j * stride, min((j + 1) * stride, length)))
            assert seen == ({max(block)} if method == "last" else block)


def test_a_block_that_is_not_full_is_the_mean_of_what_it_has(build: Build) -> None:
    x = torch.arange(5.0).reshape(1, 5, 1).expand(1, 5, 4)
    means = build("downsample", width=4)(x)[0, :, 0]
    assert means.tolist() == [0.5, 2.5, 4.0]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("stride", [2, 3])
def test_an_upsample_reads_complete_blocks_only(causal: bool, stride: int, build: Build) -> None:
    module = build("upsample", width=4, stride=stride, causal=causal, add=False)
    for length in (1, 2, 11):
        blocks = -(-length // stride)
        short = torch.arange(1.0, blocks + 1).reshape(1, blocks, 1).expand(1, blocks, 4)
        out = module(short, torch.zeros(1, length, 4))[0, :, 0].tolist()
        shift = stride - 1 if causal else 0
        want = [max(0, (t - shift) // stride + 1) for t in range(length)]
        assert out == [float(block) for block in want]
        if causal:  # block b, counted from 1, ends at position b x stride - 1
            assert all(block * stride - 1 <= t for t, block in enumerate(want) if block)


def test_repeating_undoes_taking_the_mean_of_equals(build: Build) -> None:
    x = torch.randn(1, 4, 8).repeat_interleave(3, dim=1)
    down = build("downsample", width=8, stride=3)
    up = build("upsample", width=8, stride=3, causal=False, add=False)
    torch.testing.assert_close(up(down(x), x), x)


@pytest.mark.parametrize("name", ["downsample", "upsample"])
def test_a_change_of_rate_cannot_step(name: str, build: Build) -> None:
    module = build(name, width=4)
    inputs = [torch.randn(1, 4)] * module.min_inputs
    with pytest.raises(StepError, match="change of rate"):
        module.step(module.start(1), *inputs)


def test_an_upsample_wants_fitting_lengths() -> None:
    wrong = BuildContext((sequence(8), sequence(8)), 8)
    assert sentences("upsample", wrong, stride=2) == [
        "inputs: the first is not the second downsampled by 2 "
        "(expected lengths L/2 and L, got L and L); "
        "name the short sequence first, and set stride to that of the downsample"
    ]
    right = BuildContext((sequence(8, 4), sequence(8, 7)), 8)
    assert sentences("upsample", right) == []
    wider = BuildContext((sequence(9, "L/2"), sequence(8)), 8)
    assert ["width" in sentence for sentence in sentences("upsample", wider)] == [True]
    assert sentences("upsample", wider, add=False) == []


def test_branches_of_different_rate_do_not_join() -> None:
    nodes = "{id: half, use: downsample}, {use: sum, inputs: [half, input]}"
    (problem,) = check(loads(f"name: x\nwidth: 16\nnodes: [{nodes}]"))
    assert "the branches of a merge do not have the same shape" in problem.sentence()
    assert "(B, L/2, 16)" in problem.sentence()


def test_a_language_model_must_come_back_to_every_position() -> None:
    with pytest.raises(TaskError, match="upsample"):
        fit(
            loads("name: x\nwidth: 16\nnodes: [{use: downsample}, {use: mlp}]"),
            task("python_bytes"),
        )
    assert fit(loads(hourglass()), task("python_bytes")).nodes[-1].use == "lm_head"


def test_costs_follow_the_rate() -> None:
    """An MLP behind a downsample by four costs a quarter."""
    text = (
        "name: x\nwidth: 16\nnodes: [{use: mlp}, {use: downsample, stride: 4}, {id: m, use: mlp}]"
    )
    costs = {cost.path: cost.flops for cost in predict(loads(text), batch=2, length=64).components}
    assert costs["mlp"] == 4 * costs["m"] > 0
    assert math.isclose(costs["downsample"], 0)
