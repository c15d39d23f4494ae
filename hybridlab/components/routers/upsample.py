"""Upsample: a short sequence brought back to the length of a long one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.lengths import divided
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, StepError


@component(
    "upsample",
    kind="router",
    title="Upsample",
    summary="Spreads a short sequence over the positions of a long one and adds it to that.",
    cost="linear",
    paper="https://arxiv.org/abs/2110.13711",
)
class Upsample(Component):
    """A short (B, L / stride rounded up, D) and a long (B, L, D) sequence to (B, L, D).

    ``repeat`` lets each short position stand for ``stride`` ones, ``conv`` maps it to that many by a transposed
    convolution: ``u_(js+i) = W_i z_j + b``. ``add`` gives the long sequence plus u, as a skip around
    the slow part does; otherwise the long one only says how many positions there are.

    Causal: short position j is known when its block ends, so all moves by stride - 1 positions. Position
    t reads block (t + 1) / stride - 1, rounded down, and the first stride - 1 positions nothing (zeros).
    """

    class Params(base.Params):
        """Parameters of ``upsample``."""

        stride: int = field(
            2,
            help="Long positions per short one, as downsample had it.",
            ge=2,
            le=65_536,
            unit="positions",
            search=[2, 4, 8],
        )
        method: Literal["repeat", "conv"] = field(
            "repeat",
            help="Repeat each short position, or map it to several.",
            search=["repeat", "conv"],
        )
        causal: bool = field(True, help="Wait until a block is complete before it is read.")
        add: bool = field(True, help="Add the long sequence; otherwise only its length counts.")

    params: Params
    min_inputs = 2
    max_inputs = 2

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the transposed convolution's map, (stride x D, D), if wanted."""
        super().__init__(params, context)
        features = context.features
        self.map = (
            nn.Linear(features, params.stride * features) if params.method == "conv" else None
        )

    def forward(self, *sequences: Tensor) -> Tensor:
        """Bring the first sequence (B, n, D) to the length of the second (B, L, D)."""
        short_BnD, long_BLD = sequences
        stride, length = self.params.stride, long_BLD.shape[1]
        if self.map is None:
            spread_BLD = short_BnD.repeat_interleave(stride, dim=1)
        else:
            spread_BLD = self.map(short_BnD).unflatten(-1, (stride, -1)).flatten(1, 2)
        late = stride - 1 if self.params.causal else 0
        moved_BLD = F.pad(spread_BLD, (0, 0, late, 0))[:, :length]
        return long_BLD + moved_BLD if self.params.add else moved_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Multiply by matrices of ones and zeros that say which position reads which block, place by place."""
        short_BnD, long_BLD = inputs
        stride = self.params.stride
        late = stride - 1 if self.params.causal else 0
        y_BLD = long_BLD if self.params.add else torch.zeros_like(long_BLD)
        for place in range(stride):
            reads = [
                [t - late == block * stride + place for block in range(short_BnD.shape[1])]
                for t in range(long_BLD.shape[1])
            ]
            values_BnD = short_BnD
            if self.map is not None:
                map_DD, bias_D = (each.chunk(stride)[place] for each in self.map.parameters())
                values_BnD = short_BnD @ map_DD.T + bias_D
            y_BLD = y_BLD + torch.tensor(reads).to(short_BnD) @ values_BnD
        return y_BLD

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Raise StepError: there is no short position for most long ones."""
        raise StepError("a change of rate cannot run one position at a time")

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the lengths are not those of one downsampling, or features differ."""
        short, long = context.inputs
        expected = divided(long.shape[1], params.stride)
        if short.shape[1] != expected:
            yield Problem(
                "inputs",
                f"the first is not the second downsampled by {params.stride}",
                f"lengths {expected} and {long.shape[1]}",
                f"{short.shape[1]} and {long.shape[1]}",
                "name the short sequence first, and set stride to that of the downsample",
            )
        if short.features != long.features and params.add:
            yield Problem(
                "inputs",
                "sequences of different width cannot be added",
                f"{long.features} features",
                str(short.features),
                "give both the same width, or set add: false",
            )

    @classmethod
    def input_lengths(cls, params: Params) -> tuple[str, ...]:
        """Return a length and the one that it is the downsampling of."""
        return str(divided("L", params.stride)), "L"

    @classmethod
    def output_length(cls, params: Params, inputs: tuple[TensorType, ...]) -> str | int:
        """Return the length of the second input."""
        return inputs[1].shape[1]

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter: whether a block is read before it is complete."""
        return params.causal
