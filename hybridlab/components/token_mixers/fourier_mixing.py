"""Fourier mixing: the real part of a Fourier transform in place of attention, without weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import Component, component, field, float_dtype


@component(
    "fourier_mixing",
    kind="token_mixer",
    title="Fourier mixing (FNet)",
    summary="Takes the real part of a Fourier transform along positions and features; no weights.",
    cost="linear·log",
    paper="https://arxiv.org/abs/2105.03824",
)
class FourierMixing(Component):
    """``Re(F_L x F_D)`` with the matrices F of the discrete Fourier transform: (B, L, D) to (B, L, D).

    The paper does not scale, so that sums grow with the sizes; its layer is ``scaled: false`` with
    ``residual: post``. Scaled by 1 / sqrt(L D) the transform keeps the size of its input. The result
    depends on the whole length: zeros put at the end change every position.
    """

    class Params(base.Params):
        """Parameters of ``fourier_mixing``."""

        features: bool = field(
            True, help="Transform features too, as the paper does; otherwise positions only."
        )
        scaled: bool = field(
            True, help="Divide by the root of the transform's size; the paper does not."
        )

    params: Params

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L, and along D if wanted."""
        wide_BLD = x_BLD.to(float_dtype(x_BLD))
        if torch.compiler.is_compiling():  # a compiler differentiates the parts itself
            return _real_part(wide_BLD, self.params.features, self.params.scaled).to(x_BLD.dtype)
        y_BLD: Tensor = _RealPart.apply(wide_BLD, self.params.features, self.params.scaled)  # type: ignore[no-untyped-call]
        return y_BLD.to(x_BLD.dtype)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Multiply by the matrices: Re(F_L x F_D) = C_L x C_D - S_L x S_D, cosines C and sines S."""
        (x_BLD,) = inputs
        cosines_LL, sines_LL = _waves(x_BLD.shape[1], x_BLD)
        size = x_BLD.shape[1]
        if self.params.features:
            cosines_DD, sines_DD = _waves(x_BLD.shape[2], x_BLD)
            size *= x_BLD.shape[2]
            y_BLD = cosines_LL @ x_BLD @ cosines_DD - sines_LL @ x_BLD @ sines_DD
        else:
            y_BLD = cosines_LL @ x_BLD
        return y_BLD / math.sqrt(size) if self.params.scaled else y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Every position sees all others."""
        return False


class _RealPart(torch.autograd.Function):
    """A symmetric map: the gradient is the same transform of the gradient, and nothing is kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, features: bool, scaled: bool) -> Tensor:
        return _real_part(x, features, scaled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool, bool], output: Tensor) -> None:
        ctx.kind = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad_x: Tensor = _RealPart.apply(grad, *ctx.kind)  # type: ignore[no-untyped-call]
        return grad_x, None, None


def _real_part(x_BLD: Tensor, features: bool, scaled: bool) -> Tensor:
    """Return the real part of the transform, of which half is computed and the rest mirrors it."""
    norm = "ortho" if scaled else "backward"
    last = 2 if features else 1
    half: Tensor = torch.fft.rfftn(x_BLD, dim=(1, 2) if features else (1,), norm=norm).real
    mirrored = x_BLD.shape[last] - half.shape[last]
    rest = half.narrow(last, 1, mirrored).flip(last)
    if features:  # negative frequencies of both: row k mirrors row L - k, and row 0 itself
        rest = torch.cat((rest[:, :1], rest[:, 1:].flip(1)), 1)
    return torch.cat((half, rest), last)


def _waves(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of 2 pi k l / n for all k and l."""
    numbers = torch.arange(size, device=like.device)
    angles = (numbers[:, None] * numbers % size).double() * (2 * math.pi / size)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)
