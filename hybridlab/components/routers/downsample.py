"""Downsample: one position for every few."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.lengths import divided
from hybridlab.components.types import TensorType
from hybridlab.errors import StepError


@component(
    "downsample",
    kind="router",
    title="Downsample",
    summary="Makes one position of every few, so that what follows runs at a lower rate.",
    cost="linear",
    paper="https://arxiv.org/abs/2110.13711",
)
class Downsample(Component):
    """Blocks of ``stride`` positions to one each: (B, L, D) to (B, L / stride rounded up, D).

    ``mean`` averages a block, ``last`` takes its last position, ``conv`` is a strided convolution whose
    taps cover a block: ``z_j = W [x_(js), ..., x_(js+s-1)] + b``. A last block that is not full is the mean
    or the last of what it has; a convolution sees zeros for the rest.

    Short position j stands where its block ends, at (j + 1) stride - 1, and sees nothing after that.
    ``upsample`` keeps to the same clock, so that the pair of them is causal.
    """

    class Params(base.Params):
        """Parameters of ``downsample``."""

        stride: int = field(
            2, help="Positions in a block.", ge=2, le=65_536, unit="positions", search=[2, 4, 8]
        )
        method: Literal["mean", "last", "conv"] = field(
            "mean", help="What stands for a block.", search=["mean", "last", "conv"]
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the convolution's map, (D, stride x D), if wanted."""
        super().__init__(params, context)
        features = context.features
        self.map = (
            nn.Linear(params.stride * features, features) if params.method == "conv" else None
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Make (B, L, D) into (B, n, D) with n blocks."""
        stride, length = self.params.stride, x_BLD.shape[1]
        blocks = (length + stride - 1) // stride  # ONNX divides negative numbers towards zero
        starts_n = torch.arange(blocks, device=x_BLD.device) * stride
        if self.params.method == "last":
            return x_BLD.index_select(1, (starts_n + stride - 1).clamp(max=length - 1))
        padded_BLD = F.pad(x_BLD, (0, 0, 0, blocks * stride - length))
        blocks_BnSD = torch.unflatten(padded_BLD, 1, (blocks, stride))
        if self.map is not None:
            z_BnD: Tensor = self.map(blocks_BnSD.flatten(2))
            return z_BnD
        counts_n1 = (length - starts_n).clamp(max=stride).unsqueeze(-1)
        means_BnD: Tensor = blocks_BnSD.sum(2) / counts_n1
        return means_BnD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Take block by block."""
        (x_BLD,) = inputs
        rows_BD = []
        for start in range(0, x_BLD.shape[1], self.params.stride):
            positions_BD = x_BLD[:, start : start + self.params.stride].unbind(1)
            if self.map is not None:
                row_BD = self.map.bias.expand_as(positions_BD[0])
                maps_DD = self.map.weight.chunk(self.params.stride, dim=1)
                for position_BD, map_DD in zip(positions_BD, maps_DD, strict=False):
                    row_BD = row_BD + position_BD @ map_DD.T
            elif self.params.method == "mean":
                row_BD = torch.stack(positions_BD).mean(0)
            else:
                row_BD = positions_BD[-1]
            rows_BD.append(row_BD)
        return torch.stack(rows_BD, 1)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Raise StepError: there is no output for most positions."""
        raise StepError("a change of rate cannot run one position at a time")

    @classmethod
    def output_length(cls, params: Params, inputs: tuple[TensorType, ...]) -> str | int:
        """Return the number of blocks."""
        return divided(inputs[0].shape[1], params.stride)

    @classmethod
    def heeds_end(cls, params: Params) -> bool:
        """The last block is made of what it has: nothing behind the end."""
        return True

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A block sees nothing after its last position, where it stands."""
        return True
