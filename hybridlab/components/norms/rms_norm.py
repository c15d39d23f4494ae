"""Root-mean-square norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.root_mean_square import rms_norm


@component(
    "rms_norm",
    kind="norm",
    title="RMS norm",
    summary="Scales every position to a root mean square of one; no mean is taken away.",
    cost="linear",
    paper="https://arxiv.org/abs/1910.07467",
)
class RMSNorm(Component):
    """``x / sqrt(mean(x^2) + eps) * scale`` over the features of each position; keeps (B, L, D)."""

    class Params(base.Params):
        """Parameters of ``rms_norm``."""

        eps: float = field(1e-6, help="Added to the mean square before the root.", gt=0, le=0.1)
        scale: bool = field(True, help="Learn a scale per feature.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the scale, which starts at one."""
        super().__init__(params, context)
        self.scale = nn.Parameter(torch.ones(context.features)) if params.scale else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Normalise (B, L, D) over D."""
        return rms_norm(x_BLD, self.scale, self.params.eps)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the formula as written, with the mean in float32 or better."""
        (x_BLD,) = inputs
        wide_BLD = x_BLD.to(float_dtype(x_BLD))
        y_BLD = wide_BLD / (wide_BLD.square().mean(-1, keepdim=True) + self.params.eps).sqrt()
        y_BLD = y_BLD if self.scale is None else y_BLD * self.scale
        return y_BLD.to(x_BLD.dtype)
