"""Sequences with the positions of a feature side by side, (D, B, L): products that turn them, and short convolutions.

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
feature, and features outermost, (D, B, L), so that maps of features are one product of matrices."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
COMPILED_FROM = 1 << 18
"""Numbers of an input from which the compiled kernel's pass is worth its call."""


def by_channels(x_BLD: Tensor) -> Tensor:
    """Return (D, B, L) of (B, L, D): a view where it lies so, else a copy."""
    return x_BLD.permute(2, 0, 1).contiguous()


def into_channels(linear: nn.Module, x_BLD: Tensor) -> Tensor:
    """Map (B, L, D), however it lies, to features with their positions side by side, (F, B, L)."""
    if type(linear) is not nn.Linear:  # one with a pair beside it, or computed together with others
        y_BLF: Tensor = linear(x_BLD)
        return by_channels(y_BLF)
    x_DT = x_BLD.permute(2, 0, 1).flatten(1)
    weight_FD, bias_F = linear.weight, linear._parameters["bias"]
    y_FT = weight_FD @ x_DT if bias_F is None else torch.addmm(bias_F[:, None], weight_FD, x_DT)
    return torch.unflatten(y_FT, 1, x_BLD.shape[:2])


def out_of_channels(linear: nn.Module, x_DBL: Tensor) -> Tensor:
    """Map features with their positions side by side, (D, B, L), to (B, L, F)."""
    if type(linear) is not nn.Linear:
        y_BLF: Tensor = linear(x_DBL.permute(1, 2, 0))
        return y_BLF
    x_TD = x_DBL.flatten(1).T
    weight_DF, bias_F = linear.weight.T, linear._parameters["bias"]
    y_TF = x_TD @ weight_DF if bias_F is None else torch.addmm(bias_F, x_TD, weight_DF)
    return torch.unflatten(y_TF, 0, x_DBL.shape[1:])


def convolve_rows(x_DBL: Tensor, taps_DK: Tensor, bias_D: Tensor | None, left: int) -> Tensor:
    """Return y_t = bias + sum over j of taps_j x_(t + j - left), zeros outside, (D, B, L)."""
    if (
        torch.compiler.is_compiling()
        or not x_DBL.dtype == taps_DK.dtype == float_dtype(x_DBL)
        or torch.is_autocast_enabled(x_DBL.device.type)
    ):
        kernel = taps_DK.shape[1]
        padded_BDS = nn.functional.pad(x_DBL, (left, kernel - 1 - left)).transpose(0, 1)
        y_BDL = nn.functional.conv1d(padded_BDS, taps_DK.unsqueeze(1), bias_D, groups=len(taps_DK))
        return y_BDL.transpose(0, 1)
    y_DBL: Tensor = _Rows.apply(x_DBL, taps_DK, bias_D, left)  # type: ignore[no-untyped-call]
    return y_DBL


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
    """Convolve (D, B, L) with taps (D, K)."""
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
    sums_DBJ = x.new_empty(*x.shape[:2], kernel + 1)
    library.rows_backward(
        *map(address, (x, grad, sums_DBJ)),
        *(*x.shape, kernel, left, threads_for(x.numel() * kernel)),
    )
    return sums_DBJ.sum(1)


def _by_taps(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
    """Convolve (D, B, L) by a product and a sum for each tap (D, K)."""
    own = taps[:, left, None, None]
    y = x * own if bias is None else torch.addcmul(bias[:, None, None], x, own)
    for j, (here, there, size) in enumerate(_overlaps(x.shape[2], taps.shape[1], left)):
        if j != left and size:
            y.narrow(2, here, size).addcmul_(x.narrow(2, there, size), taps[:, j, None, None])
    return y


def _summed(x: Tensor, grad: Tensor, kernel: int, left: int) -> Tensor:
    """Return the gradients (D, K + 1) by a sum of products for each tap."""
    spans = _overlaps(x.shape[2], kernel, left)
    sums = [_products(grad, x, *span) for span in spans]
    return torch.stack((*sums, grad.sum((1, 2))), 1)


def _products(grad: Tensor, x: Tensor, here: int, there: int, size: int) -> Tensor:
    """Return the sums (D) of products of what a tap brings together."""
    return (grad.narrow(2, here, size) * x.narrow(2, there, size)).sum((1, 2))


def _overlaps(length: int, kernel: int, left: int) -> list[tuple[int, int, int]]:
    """Return for each tap the first position of y that it reaches from inside, that of x there, and how many follow."""
    spans = [(max(0, left - j), max(0, j - left)) for j in range(kernel)]
    return [
        (min(here, length), min(there, length), max(0, length - here - there))
        for here, there in spans
    ]


@_convolved.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor | None, left: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gradients.register_fake
def _(x: Tensor, grad: Tensor, kernel: int, left: int) -> Tensor:
    return x.new_empty(x.shape[0], kernel + 1)


@register_flop_formula(torch.ops.hybridlab.rows_convolution)
def _flops(x: Any, taps: Any, *args: Any, **kwargs: Any) -> int:
    """Count a multiply-add for each number and tap."""
    return int(2 * math.prod(x) * taps[1])


@register_flop_formula(torch.ops.hybridlab.rows_convolution_backward)
def _flops_backward(x: Any, grad: Any, kernel: int, *args: Any, **kwargs: Any) -> int:
    """Count the same for the gradient of the taps."""
    return int(2 * math.prod(x) * kernel)
