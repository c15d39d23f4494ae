"""Convolutions and fixed mixings: what is special to them, and the same modules in transformers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import check, infer
from hybridlab.architecture.model import build as build_model
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers import dilated_conv
from hybridlab.components.token_mixers.long_convolution import (
    ImplicitFilter,
    convolve,
    convolve_directly,
    fast_size,
)
from hybridlab.components.types import TensorKind, TensorType, sequence
from hybridlab.errors import StepError

Build = Callable[..., Component]
ContextFor = Callable[..., BuildContext]


def sentences(name: str, context: BuildContext, **params: Any) -> list[str]:
    cls = palette()[name].cls
    return [problem.sentence() for problem in cls.check(cls.Params(**params), context)]


def weight(module: Component, name: str) -> Tensor:
    return module.get_parameter(name).detach()


# Short and dilated convolutions


@pytest.mark.parametrize("bias", [False, True])
def test_short_conv_is_lfm2s(bias: bool, build: Build) -> None:
    lfm2 = importlib.import_module("transformers.models.lfm2.modeling_lfm2")
    config = lfm2.Lfm2Config(
        hidden_size=16, num_hidden_layers=1, layer_types=["conv"], conv_L_cache=3, conv_bias=bias
    )
    theirs = lfm2.Lfm2ShortConv(config, 0)
    ours = build("short_conv", width=16, kernel=3, bias="all" if bias else "none")
    named = {
        "conv.taps": theirs.conv.weight.squeeze(1),
        "project_in.weight": theirs.in_proj.weight,
        "project_out.weight": theirs.out_proj.weight,
    }
    if bias:
        named |= {
            "conv.bias": theirs.conv.bias,
            "project_in.bias": theirs.in_proj.bias,
            "project_out.bias": theirs.out_proj.bias,
        }
    ours.load_state_dict(named)
    for length in (1, 2, 9):
        x = torch.randn(2, length, 16)
        torch.testing.assert_close(ours(x), theirs(x))


def test_short_conv_without_bias_has_none(build: Build) -> None:
    assert [name for name in build("short_conv", bias="none").state_dict() if "bias" in name] == []
    assert build("short_conv").state_dict().keys() == {
        *("conv.taps", "conv.bias", "project_in.weight", "project_out.weight")
    }


def test_dilated_conv_is_wavenets(build: Build) -> None:
    """Filter and gate as two convolutions of torch, then the map of one position each."""
    ours = build("dilated_conv", width=16, kernel=3, dilation=4, activation="wavenet")
    filter_taps, gate_taps = weight(ours, "taps").unflatten(1, (16, 3)).chunk(2)
    filter_bias, gate_bias = weight(ours, "bias").chunk(2)
    x = torch.randn(2, 16, 20)
    padded = F.pad(x, (8, 0))
    filtered = F.conv1d(padded, filter_taps, filter_bias, dilation=4)
    gate = F.conv1d(padded, gate_taps, gate_bias, dilation=4)
    mixed = filtered.tanh() * gate.sigmoid()
    want = F.conv1d(mixed, weight(ours, "project_out.weight")[..., None])
    want = want + weight(ours, "project_out.bias")[:, None]
    torch.testing.assert_close(ours(x.transpose(1, 2)), want.transpose(1, 2))


@pytest.mark.parametrize("length", [1, 7, 64])
@pytest.mark.parametrize("params", [{}, {"causal": False, "kernel": 4}, {"dilation": 3}])
def test_a_large_input_is_convolved_tap_by_tap_and_equal(
    params: dict[str, Any], length: int, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is large for a processor's caches takes another way: forward and backward are the same."""
    ours = build("dilated_conv", width=8, activation="wavenet", **params)
    x = torch.randn(2, length, 8, requires_grad=True)
    wanted = ours(x)
    weights = [x, *ours.parameters()]
    gradients = torch.autograd.grad(wanted.square().sum(), weights)
    monkeypatch.setattr(dilated_conv, "_PAST_CACHES", x.numel())
    monkeypatch.setattr(dilated_conv.DilatedConv, "_image", None)
    found = ours(x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), weights), gradients)


@pytest.mark.parametrize("activation", ["relu", "wavenet"])
def test_groups_of_features_do_not_meet_in_the_convolution(activation: str, build: Build) -> None:
    ours = build("dilated_conv", width=8, groups=4, activation=activation)
    with torch.no_grad():
        for name, value in (("project_out.weight", torch.eye(8)), ("project_out.bias", 0.0)):
            ours.get_parameter(name).copy_(torch.as_tensor(value))
    x = torch.randn(1, 9, 8)
    changed = x.clone()
    changed[..., 2:4] += 1
    different = (ours(x) - ours(changed)).abs().amax((0, 1)) > 1e-6
    assert different.tolist() == [False, False, True, True, False, False, False, False]


def test_doubling_the_distance_doubles_the_reach(build: Build) -> None:
    """Kernel 2 at distances 1, 2, 4 and 8 sees 16 positions, as figure 1 of WaveNet shows."""
    layers = [
        build("dilated_conv", width=4, kernel=2, dilation=2**n, activation="gelu") for n in range(4)
    ]
    x = torch.randn(1, 40, 4, requires_grad=True)
    y = x
    for layer in layers:
        y = y + layer(y)
    y[:, -1].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen.tolist() == [False] * 24 + [True] * 16


def test_groups_must_divide(context_for: ContextFor) -> None:
    assert sentences("dilated_conv", context_for("dilated_conv"), groups=5) == [
        "groups: 5 does not divide the features, 64 (expected a divisor of 64, got 5); try 4 or 8"
    ]


# Long convolutions


@pytest.mark.parametrize("length", [1, 2, 3, 17, 100])
@pytest.mark.parametrize("taps", [1, 2, 17, 130])
def test_convolution_by_transform_is_the_sum(length: int, taps: int) -> None:
    x, h = torch.randn(2, length, 3), torch.randn(taps, 3)
    torch.testing.assert_close(convolve(x, h), convolve_directly(x, h), rtol=1e-4, atol=1e-5)


def test_the_end_does_not_come_round_to_the_start() -> None:
    x = torch.zeros(1, 33, 1)
    x[:, -1] = 1e6
    assert convolve(x, torch.ones(33, 1))[:, :-1].abs().max() < 1


def test_sizes_of_transforms_are_near_and_smooth() -> None:
    for least in range(1, 3000):
        size = fast_size(least)
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1 and least <= size < max(16, least * 4 / 3)


def test_drawn_filters_fade_within_their_length() -> None:
    filter = ImplicitFilter(64, 16, 4, 1.0, 100)
    taps = filter(300)
    start, end = taps[:20].abs().amax(0), taps[150:].abs().amax(0)
    assert (end[-1] / start[-1]) < 1e-6  # the fastest
    assert 1e-4 < (end[0] / start[0]) < 0.3  # the slowest
    torch.testing.assert_close(filter(40), taps[:40])


def test_drawn_filters_are_not_rounded_under_autocast() -> None:
    filter = ImplicitFilter(8, 16, 4, 10.0, 100)
    want = filter(50)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(filter(50), want)


def test_hyena_without_filters_is_gates_alone(build: Build) -> None:
    """Filters of zeros leave y = (x_0 skip x_1 v) W, so each position stands alone."""
    ours = build("hyena", width=8, conv=1)
    with torch.no_grad():
        ours.get_parameter("filter.last.weight").zero_()
    x = torch.randn(2, 5, 8)
    scale, shift = weight(ours, "conv.taps").squeeze(1), weight(ours, "conv.bias")
    linear = F.linear(x, weight(ours, "project_in.weight"), weight(ours, "project_in.bias"))
    first, second, value = (linear * scale + shift).chunk(3, -1)
    product = first * weight(ours, "skip") * second * value
    want = F.linear(product, weight(ours, "project_out.weight"), weight(ours, "project_out.bias"))
    torch.testing.assert_close(ours(x), want)


def test_explicit_filters_end(build: Build) -> None:
    ours = build("long_conv", width=4, length=5)
    x = torch.randn(1, 12, 4, requires_grad=True)
    ours(x)[:, -1].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(-1)[0] > 1e-4).tolist() == [False] * 7 + [True] * 5


def test_squashed_taps_are_gone(build: Build) -> None:
    """With every tap below the limit only the skip is left."""
    ours = build("long_conv", width=4, length=64, squash=0.5)
    x = torch.randn(1, 12, 4)
    want = F.linear(
        F.gelu(x * weight(ours, "skip")),
        weight(ours, "project_out.weight"),
        weight(ours, "project_out.bias"),
    )
    torch.testing.assert_close(ours(x), want)


STATES: list[tuple[str, dict[str, Any], float, float]] = [
    # name, parameters, bytes per token, bytes that stay; width 64, float32
    ("hyena", {}, 64 * 4, 2 * 3 * 64 * 4),
    ("hyena", {"order": 4, "conv": 1}, 3 * 64 * 4, 0),
    ("long_conv", {"length": 100}, 0, 99 * 64 * 4),
    ("long_conv", {"filter": "implicit"}, 64 * 4, 0),
    ("dilated_conv", {"kernel": 4, "dilation": 5}, 0, 15 * 64 * 4),
    ("mlp_mixer", {"causal": True}, 0, 64 * 64 * 4),
    ("mlp_mixer", {}, 0, 0),
    ("fourier_mixing", {}, 0, 0),
    ("convnext", {}, 0, 0),
]


@pytest.mark.parametrize(("name", "params", "per_token", "fixed"), STATES)
def test_state_bytes(
    name: str, params: dict[str, Any], per_token: float, fixed: float, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == per_token
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == fixed


# Fixed mixings


def test_fourier_mixing_is_fnets(build: Build) -> None:
    fnet = importlib.import_module("transformers.models.fnet.modeling_fnet")
    theirs = fnet.FNetBasicFourierTransform(fnet.FNetConfig(hidden_size=16))
    ours = build("fourier_mixing", width=16, scaled=False)
    for length in (1, 2, 13):
        x = torch.randn(2, length, 16)
        torch.testing.assert_close(ours(x), theirs(x)[0], rtol=1e-5, atol=1e-4)


def test_a_layer_of_fnet_is_a_design() -> None:
    """Mixing and feed-forward with the norm after the residual, on equal weights."""
    fnet = importlib.import_module("transformers.models.fnet.modeling_fnet")
    theirs = fnet.FNetLayer(
        fnet.FNetConfig(hidden_size=16, intermediate_size=32, hidden_act="gelu")
    ).eval()
    nodes = (
        "{use: fourier_mixing, scaled: false, residual: post}, {use: mlp, ratio: 2, residual: post}"
    )
    ours = build_model(loads(f"name: x\nwidth: 16\nnorm: layer_norm\nnodes: [{nodes}]"))
    slots = dict(ours.slots())
    mlp = slots["mlp"].body
    with torch.no_grad():
        for name, source in (
            ("project_in", theirs.intermediate.dense),
            ("project_out", theirs.output.dense),
        ):
            mlp.get_parameter(f"{name}.weight").copy_(source.weight)
            mlp.get_parameter(f"{name}.bias").copy_(source.bias)
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=1e-4, atol=1e-4)


def test_fourier_mixing_twice_mirrors(build: Build) -> None:
    """Over positions alone, the transform of an even sequence's transform is the sequence."""
    ours = build("fourier_mixing", width=4, features=False)
    half = torch.randn(1, 6, 4)
    even = torch.cat((torch.randn(1, 1, 4), half, half.flip(1)), dim=1)
    torch.testing.assert_close(ours(ours(even)), even, rtol=1e-4, atol=1e-5)


def test_a_mixer_says_when_a_sequence_is_too_long(build: Build) -> None:
    known = BuildContext((sequence(8, 50),), 8)
    assert sentences("mlp_mixer", known, length=20) == [
        "length: there is no weight for the positions past it (expected at least 50, got 20); "
        "set length to 50"
    ]
    assert sentences("mlp_mixer", known, length=50) == []
    module = build("mlp_mixer", width=8, length=20)
    with pytest.raises(ValueError, match="set length to 21 or more"):
        module(torch.randn(1, 21, 8))
    text = "name: x\nwidth: 8\nnodes: [{use: mlp_mixer, length: 20}]"
    (problem,) = check(loads(text), length=64)
    assert "20 positions, but the sequence has 64" in problem.sentence()
    assert check(loads(text), length=16) == []


def test_a_causal_mixer_stops_stepping_at_its_length(build: Build) -> None:
    module = build("mlp_mixer", width=8, length=2, causal=True)
    state, x = module.start(1), torch.randn(1, 8)
    for _ in range(2):
        _, state = module.step(state, x)
    with pytest.raises(StepError, match="2 positions only"):
        module.step(state, x)


def test_a_mixer_is_mlp_mixers_token_mixing(build: Build) -> None:
    """The paper's layer: transpose, linear, gelu, linear, transpose."""
    module = build("mlp_mixer", width=8, length=12, hidden=20)
    x = torch.randn(2, 12, 8)
    layer = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
    names = {"0.weight": "mix_in.weight", "0.bias": "mix_in.bias"}
    names |= {"2.weight": "mix_out.weight", "2.bias": "mix_out.bias"}
    layer.load_state_dict({name: weight(module, ours) for name, ours in names.items()})
    torch.testing.assert_close(module(x), layer(x.transpose(1, 2)).transpose(1, 2))


# Pictures


def test_convnext_is_the_paper_s_block(build: Build) -> None:
    convnext = importlib.import_module("transformers.models.convnext.modeling_convnext")
    config = convnext.ConvNextConfig(layer_scale_init_value=0.5)
    theirs = convnext.ConvNextLayer(config, 8)
    ours = build("convnext", width=8, columns=6, layer_scale=0.5)
    ours.load_state_dict(
        {
            "taps": theirs.dwconv.weight.flatten(1),
            "bias": theirs.dwconv.bias,
            "norm.weight": theirs.layernorm.weight,
            "norm.bias": theirs.layernorm.bias,
            "project_in.weight": theirs.pwconv1.weight,
            "project_in.bias": theirs.pwconv1.bias,
            "project_out.weight": theirs.pwconv2.weight,
            "project_out.bias": theirs.pwconv2.bias,
            "scale": theirs.layer_scale_parameter,
        }
    )
    picture = torch.randn(2, 8, 5, 6)
    rows = picture.flatten(2).transpose(1, 2)
    want = theirs(picture).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows + ours(rows), want, rtol=1e-4, atol=1e-5)


def test_convnext_wants_to_know_the_rows() -> None:
    context = BuildContext((sequence(8, 24),), 8)
    assert sentences("convnext", context) == [
        "columns: 24 positions are not a square, so how long is a row? "
        "(expected the positions in a row, got empty); set columns, for example to 3 or 6"
    ]
    assert sentences("convnext", context, columns=5) == [
        "columns: rows of 5 do not divide the 24 positions (expected a divisor of 24, got 5); "
        "try 4 or 6"
    ]
    assert sentences("convnext", context, columns=6) == []
    assert sentences("convnext", BuildContext((sequence(8, 25),), 8)) == []


def test_patches_go_through_convnext_as_a_picture() -> None:
    text = (
        "name: x\nwidth: 16\nnodes: [{use: patch_embedding}, {use: convnext, kernel: 3}, "
        "{use: downsample, stride: 4}, {use: classifier}]"
    )
    given = TensorType(TensorKind.IMAGE, ("B", 1, 8, 8))
    inference = infer(loads(text), given)
    assert inference.problems == ()
    assert str(inference.edges["convnext"]) == "sequence (B, 16, 16) float32"
    assert str(inference.edges["downsample"]) == "sequence (B, 4, 16) float32"
    assert build_model(loads(text), given)(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
