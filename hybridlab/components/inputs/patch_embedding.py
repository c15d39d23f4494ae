"""Patch embedding: an image as a sequence of its patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    BuildContext,
    Component,
    component,
    field,
    must_divide,
    undecayed,
)
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem


@component(
    "patch_embedding",
    kind="input",
    title="Patch embedding",
    summary="Cuts an image into square patches and projects each to the width, row by row.",
    cost="linear",
    paper="https://arxiv.org/abs/2010.11929",
)
class PatchEmbedding(Component):
    """Images (B, C, height, width) to (B, n, D), n patches of P = C x patch x patch values.

    ``y_n = patch_n W + b + p_n``, with p the positions, where there are some. Fixed ones are sines and cosines of
    row and column: https://arxiv.org/abs/2205.01580.
    """

    class Params(base.Params):
        """Parameters of ``patch_embedding``."""

        patch: int = field(
            2, help="Side of a patch.", ge=1, le=4096, unit="pixels", search=[1, 2, 4, 8]
        )
        positions: Literal["learned", "sincos", "none"] = field(
            "learned",
            help="Vector added per patch: learned, fixed sines and cosines of row and column, "
            "or none.",
        )

    params: Params
    accepts = frozenset({TensorKind.IMAGE})

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the projection and the positions."""
        super().__init__(params, context)
        rows, columns = _grid(params.patch, context)
        self.projection = nn.Linear(context.features * params.patch**2, context.width)
        self.learned_positions: nn.Parameter | None = None
        if params.positions == "learned":
            table = nn.Parameter(0.2 * torch.randn(rows * columns, context.width))
            self.learned_positions = undecayed(table)
        fixed = _sincos(rows, columns, context.width) if params.positions == "sincos" else None
        self.register_buffer("fixed_positions", fixed, persistent=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Embed the patches of (B, C, height, width) as (B, n, D)."""
        side = self.params.patch
        rows_BCrWp = torch.unflatten(image_BCHW, 2, (-1, side))
        cells_BCrpcp = torch.unflatten(rows_BCrWp, 4, (-1, side))
        patches_BnP = cells_BCrpcp.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return self._placed(self.projection(patches_BnP))

    def reference(self, *inputs: Tensor) -> Tensor:
        """Cut patch by patch."""
        (image_BCHW,) = inputs
        side = self.params.patch
        patches_BP = [
            image_BCHW[:, :, top : top + side, left : left + side].flatten(1)
            for top in range(0, image_BCHW.shape[2], side)
            for left in range(0, image_BCHW.shape[3], side)
        ]
        return self._placed(self.projection(torch.stack(patches_BP, 1)))

    def _placed(self, x_BnD: Tensor) -> Tensor:
        positions_nD = (
            self.fixed_positions if self.learned_positions is None else self.learned_positions
        )
        return x_BnD + positions_nD if isinstance(positions_nD, Tensor) else x_BnD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the patch does not divide the image or the width has no quarters."""
        for name, size in zip(("height", "width"), context.inputs[0].shape[2:], strict=True):
            if not isinstance(size, int):
                yield Problem(
                    "", "positions need an image of fixed size", f"a number as {name}", repr(size)
                )
            else:
                yield from must_divide("patch", params.patch, size, f"the image's {name}")
        if params.positions == "sincos" and context.width % 4:
            yield Problem(
                "positions",
                "sines and cosines of row and column take a quarter of the width each",
                "a width divisible by 4",
                str(context.width),
                "set positions: learned, or change the width",
            )


def _grid(patch: int, context: BuildContext) -> tuple[int, int]:
    """Return how many rows and columns of patches an image has."""
    height, width = context.inputs[0].shape[2:]
    return int(height) // patch, int(width) // patch


def _sincos(rows: int, columns: int, width: int) -> Tensor:
    """Return (rows x columns, D): sines and cosines of the row, then of the column."""
    quarter = width // 4
    frequency_Q = torch.exp(-math.log(10_000.0) * torch.arange(quarter) / quarter)
    row_rQ = torch.arange(rows)[:, None] * frequency_Q
    column_cQ = torch.arange(columns)[:, None] * frequency_Q
    parts = (
        row_rQ.sin()[:, None].expand(rows, columns, quarter),
        row_rQ.cos()[:, None].expand(rows, columns, quarter),
        column_cQ.sin()[None].expand(rows, columns, quarter),
        column_cQ.cos()[None].expand(rows, columns, quarter),
    )
    return torch.cat(parts, dim=-1).flatten(0, 1)
