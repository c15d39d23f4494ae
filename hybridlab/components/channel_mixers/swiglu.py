"""SwiGLU: the gated feed-forward layer."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.channel_mixers.activations import BENDS, FORMULAS
from hybridlab.components.channel_mixers.hidden_size import hidden_size
from hybridlab.components.joined_maps import each_of

Gate = Literal["silu", "gelu", "gelu_tanh", "relu", "sigmoid"]


@component(
    "swiglu",
    kind="channel_mixer",
    title="SwiGLU",
    summary="Gated feed-forward layer: one half of the hidden features opens the other.",
    cost="linear",
    paper="https://arxiv.org/abs/2002.05202",
)
class SwiGLU(Component):
    """``(gate(x W) * x V) W2`` for each position: (B, L, D) to (B, L, D), hidden features F.

    The gate gives the layer its name in the paper: ``silu`` SwiGLU, ``gelu`` GEGLU (``gelu_tanh`` its
    approximation), ``relu`` ReGLU, ``sigmoid`` GLU.
    """

    class Params(base.Params):
        """Parameters of ``swiglu``."""

        ratio: float = field(
            8 / 3,
            help="Hidden features per feature of the width, rounded to a multiple of 8; "
            "8/3 has as many weights as a plain layer with 4.",
            gt=0,
            le=32,
            unit="x width",
            search=[4 / 3, 2.0, 8 / 3, 4.0],
        )
        gate: Gate = field(
            "silu",
            help="The bend of the gating half: silu (SwiGLU), gelu or gelu_tanh (GEGLU), relu "
            "(ReGLU), sigmoid (GLU).",
            search=["silu", "gelu", "relu"],
        )
        bias: bool = field(False, help="Add a learned offset in both maps.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the two maps in (as one) and the map out."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.project_in = nn.Linear(context.features, 2 * hidden, bias=params.bias)
        self.project_out = nn.Linear(hidden, context.width, bias=params.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix the features of each position of (B, L, D)."""
        hidden = self.project_out.in_features
        gate_BLF, value_BLF = each_of(self.project_in, x_BLD, (hidden, hidden))
        y_BLD: Tensor = self.project_out(BENDS[self.params.gate](gate_BLF) * value_BLF)
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the paper's equation with the two maps apart."""
        (x_BLD,) = inputs
        w_FD, v_FD = self.project_in.weight.chunk(2, dim=0)
        gate_BLF, value_BLF = x_BLD @ w_FD.T, x_BLD @ v_FD.T
        if self.params.bias:
            b_F, c_F = self.project_in.bias.chunk(2)
            gate_BLF, value_BLF = gate_BLF + b_F, value_BLF + c_F
        y_BLD = (FORMULAS[self.params.gate](gate_BLF) * value_BLF) @ self.project_out.weight.T
        return y_BLD + self.project_out.bias if self.params.bias else y_BLD
