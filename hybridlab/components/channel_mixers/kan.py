"""KAN: a layer whose edges are learned curves."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.channel_mixers.hidden_size import hidden_size

SPREAD = 0.3
"""Spread of the coefficients at the start, over the root of the fan-in, which keeps the curves near SiLU."""


@component(
    "kan",
    kind="channel_mixer",
    title="Kolmogorov-Arnold layer",
    summary="Learns a curve for every pair of features, in and out, instead of a weight.",
    cost="linear",
    paper="https://arxiv.org/abs/2404.19756",
)
class KolmogorovArnold(Component):
    """Two layers ``y_o = sum_i phi_oi(x_i)``, (B, L, D) over F features back to (B, L, D).

    ``phi(x) = w silu(x) + sum_g c_g B_g(x)``, with G + k B-splines B_g of order k on G equal intervals
    of [-reach, reach]. Outside, the splines fade to zero within k intervals, and the SiLU remains. The
    paper's factor on the spline is part of c. Its grid follows the data; this one stays, since its
    inputs are normalised. So many curves weigh (G + k + 1) times a plain layer of the same F.
    """

    class Params(base.Params):
        """Parameters of ``kan``."""

        ratio: float = field(
            0.5,
            help="Hidden features per feature of the width, rounded to a multiple of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[0.25, 0.5, 1.0],
        )
        grid: int = field(5, help="Intervals of a curve's grid.", ge=1, le=64, search=[3, 5, 8])
        order: int = field(3, help="Degree of the curves' pieces.", ge=2, le=5, search=[2, 3])
        reach: float = field(
            2.0, help="The grid covers inputs from minus this to this.", gt=0, le=100
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the curves of both layers."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.layer_in = _Curves(context.features, hidden, params)
        self.layer_out = _Curves(hidden, context.width, params)

    def output_weights(self) -> list[str]:
        """Return the weights of the second layer's curves."""
        return ["layer_out.silu.weight", "layer_out.splines.weight"]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix the features of each position of (B, L, D)."""
        y_BLD: Tensor = self.layer_out(self.layer_in(x_BLD))
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up the curves, with splines by the recursion of Cox and de Boor."""
        (x_BLD,) = inputs
        return self.layer_out.naive(self.layer_in.naive(x_BLD))


class _Curves(nn.Module):
    """A curve for each pair of features: (..., D) to (..., F)."""

    def __init__(self, features: int, outputs: int, params: KolmogorovArnold.Params) -> None:
        super().__init__()
        self.grid, self.order, self.reach = params.grid, params.order, params.reach
        splines = params.grid + params.order
        self.silu = nn.Linear(features, outputs, bias=False)
        self.splines = nn.Linear(features * splines, outputs, bias=False)
        nn.init.normal_(self.splines.weight, std=SPREAD / math.sqrt(features))

    def forward(self, x_D: Tensor) -> Tensor:
        values_DG = uniform_splines(x_D.to(float_dtype(x_D)), self.grid, self.order, self.reach)
        y_F: Tensor = self.silu(F.silu(x_D)) + self.splines(values_DG.to(x_D.dtype).flatten(-2))
        return y_F

    def naive(self, x_D: Tensor) -> Tensor:
        step = 2 * self.reach / self.grid
        knots = [
            -self.reach + (i - self.order) * step for i in range(self.grid + 2 * self.order + 1)
        ]
        y_F = (x_D / (1 + torch.exp(-x_D))) @ self.silu.weight.T
        c_FDG = torch.unflatten(self.splines.weight, 1, (x_D.shape[-1], -1))
        for spline, c_FD in enumerate(c_FDG.unbind(-1)):
            y_F = y_F + _cox_de_boor(x_D, knots, spline, self.order) @ c_FD.T
        return y_F


def uniform_splines(x: Tensor, grid: int, order: int, reach: float) -> Tensor:
    """Return the values (..., G + k) at x (...) of the B-splines of order k on equal intervals.

    All are one bump in different places. Being symmetric, it is taken from its nearer end, z from
    there in intervals: sum over j <= (k + 1) / 2 of (-1)^j (k + 1 over j) max(z - j, 0)^k / k!, few
    terms, none of them much larger than the sum.
    """
    starts_G = torch.arange(grid + order, device=x.device, dtype=x.dtype) - order
    from_left = (x.unsqueeze(-1) + reach) * (grid / (2 * reach)) - starts_G
    z = torch.minimum(from_left, order + 1 - from_left)
    bump = torch.relu(z).pow(order)
    for j in range(1, (order + 1) // 2 + 1):
        term = torch.relu(z - j).pow(order) * math.comb(order + 1, j)
        bump = bump - term if j % 2 else bump + term
    return bump / math.factorial(order)


def _cox_de_boor(x: Tensor, knots: list[float], spline: int, order: int) -> Tensor:
    """Return one B-spline at x by the recursion over orders."""
    if order == 0:
        return ((x >= knots[spline]) & (x < knots[spline + 1])).to(x.dtype)
    rises = (x - knots[spline]) / (knots[spline + order] - knots[spline])
    end = knots[spline + order + 1]
    falls = (end - x) / (end - knots[spline + 1])
    return rises * _cox_de_boor(x, knots, spline, order - 1) + falls * _cox_de_boor(
        x, knots, spline + 1, order - 1
    )
