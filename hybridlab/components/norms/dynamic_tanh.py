"""Dynamic tanh: squashes every feature in place of a norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype


@component(
    "dynamic_tanh",
    kind="norm",
    title="Dynamic tanh",
    summary="Squashes every feature by a tanh of learned steepness; takes no statistics.",
    cost="linear",
    paper="https://arxiv.org/abs/2503.10622",
)
class DynamicTanh(Component):
    """``tanh(alpha x) * scale + bias`` with one learned alpha; keeps (B, L, D)."""

    class Params(base.Params):
        """Parameters of ``dynamic_tanh``."""

        alpha: float = field(
            0.5, help="Steepness at the start; it is learned.", gt=0, le=100, search=[0.2, 0.5, 0.8]
        )
        scale: bool = field(True, help="Learn a scale per feature.")
        bias: bool = field(True, help="Learn a shift per feature.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the steepness, the scale, which starts at one, and the bias, which starts at zero."""
        super().__init__(params, context)
        self.alpha = nn.Parameter(torch.full((1,), params.alpha))
        self.scale = nn.Parameter(torch.ones(context.features)) if params.scale else None
        self.bias = nn.Parameter(torch.zeros(context.features)) if params.bias else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Squash (B, L, D)."""
        # Wide, since the gradient needs 1 - tanh^2, of which 16 bits keep little where tanh is near one.
        y_BLD = torch.tanh(x_BLD.to(float_dtype(x_BLD)) * self.alpha)
        if self.scale is not None and self.bias is not None:
            y_BLD = torch.addcmul(self.bias.to(y_BLD.dtype), y_BLD, self.scale.to(y_BLD.dtype))
        elif self.scale is not None:
            y_BLD = y_BLD * self.scale
        elif self.bias is not None:
            y_BLD = y_BLD + self.bias
        return y_BLD.to(x_BLD.dtype)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the formula with tanh(z) = 2 / (1 + exp(-2z)) - 1."""
        (x_BLD,) = inputs
        y_BLD = 2 * torch.sigmoid(2 * self.alpha * x_BLD) - 1
        y_BLD = y_BLD if self.scale is None else y_BLD * self.scale
        return y_BLD if self.bias is None else y_BLD + self.bias
