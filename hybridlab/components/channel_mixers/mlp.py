"""MLP: the plain feed-forward layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.channel_mixers.hidden_size import hidden_size

Activation = Literal["gelu", "relu", "silu", "relu_squared"]

_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "relu_squared": lambda x: F.relu(x).square(),
}
_FORMULAS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "relu": lambda x: x * (x > 0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "relu_squared": lambda x: x * x * (x > 0),
}


@component(
    "mlp",
    kind="channel_mixer",
    title="MLP",
    summary="Plain feed-forward layer: out to hidden features, a bend, and back.",
    cost="linear",
    paper="https://arxiv.org/abs/1706.03762",
)
class MLP(Component):
    """``act(x W + b) W2 + b2`` for each position: (B, L, D) to (B, L, D), hidden features F.

    ``relu_squared``: https://arxiv.org/abs/2109.08668; ``gelu``: https://arxiv.org/abs/1606.08415.
    """

    class Params(base.Params):
        """Parameters of ``mlp``."""

        ratio: float = field(
            4.0,
            help="Hidden features per feature of the width, rounded to a multiple of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[1.0, 2.0, 4.0],
        )
        activation: Activation = field(
            "gelu", help="The bend between the two maps.", search=["gelu", "relu_squared"]
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map in and the map out."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.project_in = nn.Linear(context.features, hidden)
        self.project_out = nn.Linear(hidden, context.width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix the features of each position of (B, L, D)."""
        hidden_BLF = _ACTIVATIONS[self.params.activation](self.project_in(x_BLD))
        y_BLD: Tensor = self.project_out(hidden_BLF)
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the equation with the activation's formula."""
        (x_BLD,) = inputs
        hidden_BLF = x_BLD @ self.project_in.weight.T + self.project_in.bias
        hidden_BLF = _FORMULAS[self.params.activation](hidden_BLF)
        return hidden_BLF @ self.project_out.weight.T + self.project_out.bias
