"""Sequences by channels: convolutions of rows and maps that turn, each against its form by tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridlab.components import channel_major
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.token_mixers.long_convolution import convolve, convolve_directly


@pytest.mark.parametrize("taps", [1, 5, 23])
def test_gradients_of_a_long_convolution_are_those_of_its_sum(taps: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 23, 4, dtype=torch.float64, requires_grad=True)
    h = torch.randn(taps, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 23, 4, dtype=torch.float64)
    wanted = torch.autograd.grad((convolve_directly(x, h) * weight).sum(), (x, h))
    for got in (
        torch.autograd.grad((convolve(x, h) * weight).sum(), (x, h)),
        torch.autograd.grad(
            (convolve(x.permute(2, 0, 1), h.T[:, None], along=-1) * weight.permute(2, 0, 1)).sum(),
            (x, h),
        ),
    ):
        for one, two in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("length", "kernel", "causal"), [(1, 3, True), (5, 4, True), (37, 3, True), (70, 7, False)]
)
def test_rows_are_convolved_as_sequences_are(
    length: int, kernel: int, causal: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_major, "COMPILED_FROM", 0 if compiled else 1 << 62)
    torch.manual_seed(0)
    conv = DepthwiseConv(6, kernel, causal=causal)
    x = torch.randn(2, length, 6, requires_grad=True)
    weight = torch.randn(2, length, 6)
    of = (x, conv.taps, conv.bias)
    wanted_y = conv.reference(x)
    wanted = torch.autograd.grad((wanted_y * weight).sum(), of)
    rows = channel_major.by_channels(x)
    y = channel_major.convolve_rows(rows, conv.taps, conv.bias, conv.left).permute(1, 2, 0)
    torch.testing.assert_close(y, wanted_y, rtol=1e-5, atol=1e-6)
    for one, two in zip(torch.autograd.grad((y * weight).sum(), of), wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_maps_turn_sequences(bias: bool) -> None:
    linear, x = nn.Linear(5, 7, bias=bias).double(), torch.randn(2, 6, 5, dtype=torch.float64)
    wanted = linear(x)
    for mapped in (linear, nn.Sequential(linear)):
        rows = channel_major.by_channels(x)
        for given in (x, rows.permute(1, 2, 0)):
            turned = channel_major.into_channels(mapped, given)
            assert turned.is_contiguous()
            torch.testing.assert_close(turned, wanted.permute(2, 0, 1))
        back = channel_major.out_of_channels(mapped, rows)
        torch.testing.assert_close(back, wanted)
