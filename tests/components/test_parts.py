"""The parts that several components share, and how weights start."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from hybridlab.components import depthwise
from hybridlab.components.base import Component
from hybridlab.components.depthwise import DepthwiseConv, depthwise_conv
from hybridlab.components.registry import palette
from hybridlab.components.root_mean_square import rms_norm
from hybridlab.components.rotary import rotate

Build = Callable[..., Component]


def test_rms_norm_gradients_of_first_and_second_order() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: rms_norm(x, s, 1e-3), (x, scale))
    assert torch.autograd.gradgradcheck(lambda x, s: rms_norm(x, s, 1e-3), (x, scale))


def test_rms_norm_under_vmap_and_grad() -> None:
    x, scale = torch.randn(4, 6), torch.randn(6)
    per_row = torch.func.vmap(torch.func.grad(lambda x: rms_norm(x, scale, 1e-3).square().sum()))(x)
    x.requires_grad_()
    rms_norm(x, scale, 1e-3).square().sum().backward()
    torch.testing.assert_close(per_row, x.grad)


@pytest.mark.parametrize("magnitude", [0.0, 1e-12, 1.0, 1e12])
def test_rms_norm_agrees_with_pytorch_at_any_size(magnitude: float) -> None:
    x = torch.full((2, 8), magnitude).requires_grad_()
    scale = torch.ones(8, requires_grad=True)
    got = torch.autograd.grad(rms_norm(x, scale, 1e-6).sum(), (x, scale))
    want = torch.autograd.grad(F.rms_norm(x, (8,), scale, 1e-6).sum(), (x, scale))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(rms_norm(x, scale, 1e-6), F.rms_norm(x, (8,), scale, 1e-6))


def test_rms_norm_keeps_only_its_input() -> None:
    kept: list[int] = []
    x, scale = torch.randn(4, 32, 8, requires_grad=True), torch.ones(8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.append(t.data_ptr()), t)[1], lambda t: t
    ):
        rms_norm(x, scale, 1e-6)
    assert set(kept) == {x.data_ptr(), scale.data_ptr()}


@pytest.mark.parametrize("kernel", [1, 2, 4, 9])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 5, 20])
def test_depthwise_convolution(kernel: int, causal: bool, length: int) -> None:
    conv = DepthwiseConv(3, kernel, causal=causal).double()
    x = torch.randn(2, length, 3, dtype=torch.float64)
    torch.testing.assert_close(conv(x), conv.reference(x))


@pytest.fixture
def own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the gradient of the taps by hand for any number of inputs, in segments of few."""
    monkeypatch.setattr(depthwise, "OWN_FROM", 0)
    monkeypatch.setattr(depthwise, "SEGMENT_NUMBERS", 24)


@pytest.mark.usefixtures("own_gradients")
@pytest.mark.parametrize("kernel", [1, 4, 7])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 5, 20])
def test_gradients_of_a_depthwise_convolution(kernel: int, causal: bool, length: int) -> None:
    conv = DepthwiseConv(3, kernel, causal=causal).double()
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    leaves, direction = (x, *conv.parameters()), torch.randn(2, length, 3, dtype=torch.float64)
    got = torch.autograd.grad(conv(x), leaves, direction)
    for one, want in zip(
        got, torch.autograd.grad(conv.reference(x), leaves, direction), strict=True
    ):
        torch.testing.assert_close(one, want)


@pytest.mark.usefixtures("own_gradients")
def test_depthwise_convolution_differentiates_twice_and_by_functions() -> None:
    conv = DepthwiseConv(3, 4).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    given = (x, conv.taps, conv.bias)
    assert torch.autograd.gradgradcheck(lambda *parts: depthwise_conv(*parts, 3), given)
    each = torch.func.vmap(torch.func.grad(lambda row: conv(row[None]).square().sum()))(x.detach())
    conv(x).square().sum().backward()
    torch.testing.assert_close(each, x.grad)


def test_rotation_depends_on_distance_alone() -> None:
    """The product of a turned query and a turned key is the same wherever both are shifted to."""
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    queries, keys = (rotate(x.expand(1, 1, 40, 8), 100.0)[0, 0] for x in (q, k))
    products = queries @ keys.T
    for distance in (0, 3, 11):
        diagonal = products.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert products.diagonal(-3)[0] != pytest.approx(float(products.diagonal(-11)[0]))


AS_PUBLISHED = {
    *(("mamba", "log_rate"), ("s4d", "log_rate"), ("s4d", "frequency"), ("s4d", "read")),
    ("lru", "project_out.weight"),
}
"""These are rates, or start as their paper says."""
JOINS = {"gated_sum", "hyper_read", "hyper_write"}  # start as shares of branches


@pytest.mark.parametrize("name", list(palette()))
def test_weights_start_at_the_scale_of_their_fan_in(name: str, build: Build) -> None:
    """A start far below 1 / sqrt(fan-in) decides whether recall tasks are learnt at all."""
    module = build(name, width=256)
    for key, weight in module.named_parameters():
        if weight.dim() < 2 or "positions" in key or name in JOINS:
            continue
        if (name, key) in AS_PUBLISHED:
            continue
        fan_in = weight.shape[1]  # of experts too, whose weights are (E, in, out)
        if isinstance(module.get_submodule(key.rpartition(".")[0]), torch.nn.Embedding):
            fan_in = 1
        elif name in ("lstm", "gru"):
            fan_in = 256
        relative = weight.detach().std().item() * math.sqrt(fan_in)
        assert 0.5 < relative < 1.1, f"{key} starts at {relative:.2f} of 1 / sqrt(fan-in)"


def test_mamba_starts_with_rates_and_steps_of_the_paper(build: Build) -> None:
    module = build("mamba2", width=256, heads=64)
    rates = module.get_parameter("log_rate").exp()
    steps = F.softplus(module.get_parameter("step_bias"))
    assert 1 <= rates.min() < 4 and 12 < rates.max() <= 16
    assert 0.00099 <= steps.min() < 0.004 and 0.03 < steps.max() <= 0.1001
    assert torch.equal(module.get_parameter("skip"), torch.ones(64))
