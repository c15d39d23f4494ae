"""Sequences with the positions of a feature side by side, (B, D, L): products that turn them, and short convolutions.

A product of matrices reads and writes either way around at no cost, so that maps at the edges of a component are where
a sequence is turned. The short convolution of rows is one operator, forward and backward: on the CPU in the compiled
kernel where there is one (``fused_scans``).
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from hybridlab.components.base import float_dtype
from hybridlab.components.fused_scans import address, fused_for, threads_for

Layout = Literal["tokens", "channels"]
"""How a sequence lies: ``tokens``: the features of a position side by side, (B, L, D); ``channels``: the positions of a
feature, (B, D, L)."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
COMPILED_FROM = 1 << 18
"""Numbers of an input from which the compiled kernel's pass is worth its call."""


def into_channels(linear: nn.Module, x_BLD: Tensor) -> Tensor:
    """Map (B, L, D) to features with their positions side by side, (B, F, L)."""
    if type(linear) is not nn.Linear:  # one with a pair beside it, or computed together with others
        y_BLF: Tensor = linear(x_BLD)
        return y_BLF.transpose(1, 2).contiguous()
    weights_BFD = linear.weight.expand(x_BLD.shape[0], -1, -1)
    if linear.bias is None:
        return torch.bmm(weights_BFD, x_BLD.transpose(1, 2))
    return torch.baddbmm(linear.bias[:, None], weights_BFD, x_BLD.transpose(1, 2))


def out_of_channels(linear: nn.Module, x_BDL: Tensor) -> Tensor:
    """Map features with their positions side by side, (B, D, L), to (B, L, F)."""
    if type(linear) is not nn.Linear:
        y_BLF: Tensor = linear(x_BDL.transpose(1, 2))
        return y_BLF
    weights_BDF = linear.weight.T.expand(x_BDL.shape[0], -1, -1)
    if linear.bias is None:
        return torch.bmm(x_BDL.transpose(1, 2), weights_BDF)
    return torch.baddbmm(linear.bias, x_BDL.transpose(1, 2), weights_BDF)


def convolve_rows(x_BDL: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int) -> Tensor:
    """Return y_t = bias + sum over j of taps_j x_(t + j - left), zeros outside, (B, D, L)."""
    if (
        torch.compiler.is_compiling()
        or not x_BDL.dtype == taps_DK.dtype == float_dtype(x_BDL)
        or torch.is_autocast_enabled(x_BDL.device.type)
    ):
        kernel = taps_DK.shape[1]
        padded_BDS = nn.functional.pad(x_BDL, (left, kernel - 1 - left))
        return nn.functional.conv1d(padded_BDS, taps_DK.unsqueeze(1), bias_D, groups=len(taps_DK))
    y_BDL: Tensor = _Rows.apply(x_BDL, taps_DK, bias_D, left)  # type: ignore[no-untyped-call]
    return y_BDL


class _Rows(torch.autograd.Function):
    """The gradient of x is the convolution of y's with the taps in turn; that of a tap is a sum of products."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
        y: Tensor = (_by_taps if x.numel() < COMPILED_FROM else _convolved)(x, taps, bias, left)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, bias, ctx.left = inputs
        ctx.biased = bias is not None
        ctx.save_for_backward(x, taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        kernel = taps.shape[1]
        grad_x = _Rows.apply(grad, taps.flip(1), None, kernel - 1 - ctx.left)  # type: ignore[no-untyped-call]
        summed = _summed if x.numel() < COMPILED_FROM else _gradients
        sums_DJ: Tensor = summed(x, grad, kernel, ctx.left)
        return grad_x, sums_DJ[:, :kernel], sums_DJ[:, kernel] if ctx.biased else None, None


@torch.library.custom_op(
    "hybridlab::rows_convolution",
    mutates_args=(),
    schema="(Tensor x, Tensor taps, Tensor? bias, int left) -> Tensor",
)
def _convolved(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
    """Convolve (B, D, L) with taps (D, K)."""
    library = fused_for(x, taps)
    if library is None:
        return _by_taps(x, taps, bias, left)
    x, taps, bias = x.contiguous(), taps.contiguous(), None if bias is None else bias.contiguous()
    y = torch.empty_like(x)
    library.rows_forward(
        *(address(x), address(taps), None if bias is None else address(bias), address(y)),
        *(*x.shape, taps.shape[1], left, threads_for(x.numel() * taps.shape[1])),
    )
    return y


@torch.library.custom_op(
    "hybridlab::rows_convolution_backward",
    mutates_args=(),
    schema="(Tensor x, Tensor grad, int kernel, int left) -> Tensor",
)
def _gradients(x: Tensor, grad: Tensor, kernel: int, left: int) -> Tensor:
    """Return the gradients of the taps and, last, of the bias: (D, K + 1)."""
    library = fused_for(x, grad)
    if library is None:
        return _summed(x, grad, kernel, left)
    x, grad = x.contiguous(), grad.contiguous()
    sums_BDJ = x.new_empty(*x.shape[:2], kernel + 1)
    library.rows_backward(
        *map(address, (x, grad, sums_BDJ)),
        *(*x.shape, kernel, left, threads_for(x.numel() * kernel)),
    )
    return sums_BDJ.sum(0)


def _by_taps(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
    """Convolve (B, D, L) by a product and a sum for each tap (D, K)."""
    own = taps[:, left, None]
    y = x * own if bias is None else torch.addcmul(bias[:, None], x, own)
    for j, (here, there) in enumerate(_overlaps(x.shape[2], taps.shape[1], left)):
        if j != left:
            y[..., here].addcmul_(x[..., there], taps[:, j, None])
    return y


def _summed(x: Tensor, grad: Tensor, kernel: int, left: int) -> Tensor:
    """Return the gradients (D, K + 1) by a sum of products for each tap."""
    sums = [
        (grad[..., here] * x[..., there]).sum((0, 2))
        for here, there in _overlaps(x.shape[2], kernel, left)
    ]
    return torch.stack((*sums, grad.sum((0, 2))), 1)


def _overlaps(length: int, kernel: int, left: int) -> list[tuple[slice, slice]]:
    """Return for each tap the positions of y that it reaches from inside, and those of x that it sees there."""
    spans = [(j - left, max(0, left - j), min(length, length - j + left)) for j in range(kernel)]
    return [
        (slice(first, max(first, last)), slice(first + shift, max(first, last) + shift))
        for shift, first, last in spans
    ]


@_convolved.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gradients.register_fake
def _(x: Tensor, grad: Tensor, kernel: int, left: int) -> Tensor:
    return x.new_empty(x.shape[1], kernel + 1)


@register_flop_formula(torch.ops.hybridlab.rows_convolution)
def _flops(x: Any, taps: Any, *args: Any, **kwargs: Any) -> int:
    """Count a multiply-add for each number and tap."""
    return int(2 * math.prod(x) * taps[1])


@register_flop_formula(torch.ops.hybridlab.rows_convolution_backward)
def _flops_backward(x: Any, grad: Any, kernel: int, *args: Any, **kwargs: Any) -> int:
    """Count the same for the gradient of the taps."""
    return int(2 * math.prod(x) * kernel)
