"""Fourier mixing: the real part of a Fourier transform in place of attention, without weights."""

from __future__ import annotations

import math

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
        over = (1, 2) if self.params.features else (1,)
        norm = "ortho" if self.params.scaled else "backward"
        wide_BLD = x_BLD.to(float_dtype(x_BLD))
        y_BLD: Tensor = torch.fft.fftn(wide_BLD, dim=over, norm=norm).real
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


def _waves(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of 2 pi k l / n for all k and l."""
    numbers = torch.arange(size, device=like.device)
    angles = (numbers[:, None] * numbers % size).double() * (2 * math.pi / size)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)
