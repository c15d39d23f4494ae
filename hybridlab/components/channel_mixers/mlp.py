"""MLP: the plain feed-forward layer."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.channel_mixers.activations import BENDS, FORMULAS
from hybridlab.components.channel_mixers.hidden_size import hidden_size

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "relu_squared"]


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

    ``relu_squared`` (https://arxiv.org/abs/2109.08668) without offsets is Nemotron-H's layer; ``gelu``
    (https://arxiv.org/abs/1606.08415) with them is GPT-NeoX's, and ``gelu_tanh``, its approximation, GPT-2's.
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
        bias: bool = field(True, help="Add a learned offset in both maps.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map in and the map out."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.project_in = nn.Linear(context.features, hidden, bias=params.bias)
        self.project_out = nn.Linear(hidden, context.width, bias=params.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix the features of each position of (B, L, D)."""
        hidden_BLF = BENDS[self.params.activation](self.project_in(x_BLD))
        y_BLD: Tensor = self.project_out(hidden_BLF)
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the equation with the activation's formula."""
        (x_BLD,) = inputs
        hidden_BLF = x_BLD @ self.project_in.weight.T
        if self.params.bias:
            hidden_BLF = hidden_BLF + self.project_in.bias
        y_BLD = FORMULAS[self.params.activation](hidden_BLF) @ self.project_out.weight.T
        return y_BLD + self.project_out.bias if self.params.bias else y_BLD
