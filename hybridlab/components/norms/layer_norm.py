"""Layer norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype


@component(
    "layer_norm",
    kind="norm",
    title="Layer norm",
    summary="Shifts and scales every position to mean zero and variance one.",
    cost="linear",
    paper="https://arxiv.org/abs/1607.06450",
)
class LayerNorm(Component):
    """``(x - mean) / sqrt(variance + eps) * scale + bias`` over features; keeps (B, L, D)."""

    class Params(base.Params):
        """Parameters of ``layer_norm``."""

        eps: float = field(1e-5, help="Added to the variance before the root.", gt=0, le=0.1)
        scale: bool = field(True, help="Learn a scale per feature.")
        bias: bool = field(True, help="Learn a shift per feature.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the scale, which starts at one, and the bias, which starts at zero."""
        super().__init__(params, context)
        self.scale = nn.Parameter(torch.ones(context.features)) if params.scale else None
        self.bias = nn.Parameter(torch.zeros(context.features)) if params.bias else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Normalise (B, L, D) over D."""
        size = (x_BLD.shape[-1],)
        return F.layer_norm(x_BLD, size, self.scale, self.bias, self.params.eps)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the formula as written, with the moments in float32 or better."""
        (x_BLD,) = inputs
        wide_BLD = x_BLD.to(float_dtype(x_BLD))
        centred_BLD = wide_BLD - wide_BLD.mean(-1, keepdim=True)
        variance_BL1 = centred_BLD.square().mean(-1, keepdim=True)
        y_BLD = centred_BLD / (variance_BL1 + self.params.eps).sqrt()
        y_BLD = y_BLD if self.scale is None else y_BLD * self.scale
        y_BLD = y_BLD if self.bias is None else y_BLD + self.bias
        return y_BLD.to(x_BLD.dtype)
