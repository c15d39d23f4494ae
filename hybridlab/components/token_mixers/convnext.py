"""ConvNeXt block: a two-dimensional convolution of a picture's positions, and an MLP."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, divisors_near, field
from hybridlab.errors import Problem

NORM_EPS = 1e-6


@component(
    "convnext",
    kind="token_mixer",
    title="ConvNeXt",
    summary="Convolves each feature over rows and columns of a picture, then mixes features in an MLP.",
    cost="linear",
    paper="https://arxiv.org/abs/2201.03545",
)
class ConvNeXt(Component):
    """``gelu(norm(conv(x)) W + b) W2 + b2`` on a picture read row by row: (B, L, D) to (B, L, D).

    ``conv`` is depthwise over kernel x kernel positions around each, with zeros outside of the picture.
    Patches come as a sequence, so the block reads a sequence: ``columns`` says how long a row is. The
    paper's block has no norm before it; ``residual: none`` and a sum are exactly that.
    """

    class Params(base.Params):
        """Parameters of ``convnext``."""

        kernel: int = field(
            7,
            help="Side of the window around each position; odd sides are centred.",
            ge=1,
            le=63,
            unit="positions",
            search=[3, 5, 7],
        )
        columns: int | None = field(
            None,
            help="Positions in a row of the picture; empty: the picture is a square.",
            ge=1,
            le=65_536,
            unit="positions",
        )
        expand: int = field(
            4, help="Hidden features of the MLP per feature of the width.", ge=1, le=16
        )
        layer_scale: float = field(
            0.0,
            help="Start of a learned factor for each feature of the output (paper: 1e-6); 0: none.",
            ge=0,
            le=1,
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the taps (D, kernel x kernel), uniform by their fan-in, the norm and the MLP."""
        super().__init__(params, context)
        features = context.features
        self.taps = nn.Parameter(
            torch.empty(features, params.kernel**2).uniform_(-1 / params.kernel, 1 / params.kernel)
        )
        self.bias = nn.Parameter(
            torch.empty(features).uniform_(-1 / params.kernel, 1 / params.kernel)
        )
        self.norm = nn.LayerNorm(features, eps=NORM_EPS)
        self.project_in = nn.Linear(features, params.expand * context.width)
        self.project_out = nn.Linear(params.expand * context.width, context.width)
        scale = torch.full((context.width,), params.layer_scale)
        self.scale = nn.Parameter(scale) if params.layer_scale else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) over rows and columns; a last row that is not full is filled with zeros."""
        length = x_BLD.shape[1]
        columns = self._columns(length)
        image_BRCD = torch.unflatten(F.pad(x_BLD, (0, 0, 0, -length % columns)), 1, (-1, columns))
        kernel = self.params.kernel
        image_BDRC = image_BRCD.permute(0, 3, 1, 2)
        before, after = kernel // 2, (kernel - 1) // 2
        if before != after:
            image_BDRC = F.pad(image_BRCD, (0, 0, 1, 0, 1, 0)).permute(0, 3, 1, 2)
        taps_D1KK = torch.unflatten(self.taps, 1, (1, kernel, kernel))
        y_BDRC = F.conv2d(
            image_BDRC, taps_D1KK, self.bias, padding=after, groups=self.taps.shape[0]
        )
        y_BLD = y_BDRC.permute(0, 2, 3, 1).flatten(1, 2)[:, :length]
        return self._scaled(self.project_out(F.gelu(self.project_in(self.norm(y_BLD)))))

    def _columns(self, length: int) -> int:
        """Return how many positions are in a row."""
        return self.params.columns or 1 + math.isqrt(length - 1)

    def _scaled(self, y_BLD: Tensor) -> Tensor:
        return y_BLD if self.scale is None else y_BLD * self.scale

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up the taps, each on the picture moved by its rows and columns."""
        (x_BLD,) = inputs
        length, kernel = x_BLD.shape[1], self.params.kernel
        columns = self._columns(length)
        rows = -(-length // columns)
        place_L = torch.arange(length)
        y_BLD = self.bias.expand_as(x_BLD)
        for i in range(kernel):
            for j in range(kernel):
                row_L = place_L // columns + i - kernel // 2
                column_L = place_L % columns + j - kernel // 2
                seen_L = row_L * columns + column_L
                inside_L = (row_L >= 0) & (row_L < rows) & (column_L >= 0) & (column_L < columns)
                inside_L &= (seen_L >= 0) & (seen_L < length)
                moved_BLD = x_BLD[:, seen_L.clamp(0, length - 1)]
                hidden_L1 = inside_L[:, None].to(x_BLD)
                y_BLD = y_BLD + self.taps[:, i * kernel + j] * moved_BLD * hidden_L1
        centred_BLD = y_BLD - y_BLD.mean(-1, keepdim=True)
        deviation_BL1 = (centred_BLD.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
        z_BLH = self.project_in(centred_BLD / deviation_BL1 * self.norm.weight + self.norm.bias)
        return self._scaled(self.project_out(z_BLH * 0.5 * (1 + torch.erf(z_BLH / math.sqrt(2)))))

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where a known number of positions has no whole rows."""
        length = context.inputs[0].shape[1]
        if not isinstance(length, int):
            return
        if params.columns is None and math.isqrt(length) ** 2 != length:
            options = " or ".join(map(str, divisors_near(length, math.isqrt(length))))
            yield Problem(
                "columns",
                f"{length} positions are not a square, so how long is a row?",
                "the positions in a row",
                "empty",
                f"set columns, for example to {options}",
            )
        elif params.columns is not None and length % params.columns:
            options = " or ".join(map(str, divisors_near(length, params.columns)))
            yield Problem(
                "columns",
                f"rows of {params.columns} do not divide the {length} positions",
                f"a divisor of {length}",
                str(params.columns),
                f"try {options}",
            )

    @classmethod
    def causal(cls, params: Params) -> bool | None:
        """A window reaches to rows further down; one of a single position sees nothing else."""
        return None if params.kernel == 1 else False
