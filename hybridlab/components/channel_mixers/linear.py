"""Linear: one map of the features, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field


@component(
    "linear",
    kind="channel_mixer",
    title="Linear",
    summary="One learned map of each position's features, without a bend.",
    cost="linear",
    paper="https://arxiv.org/abs/2405.16712",
)
class Linear(Component):
    """``x W^T`` for each position, with an offset where it is wanted: (B, L, D) to (B, L, D).

    Models that use one block at many places put such a map behind each use, so that uses may differ.
    """

    class Params(base.Params):
        """Parameters of ``linear``."""

        bias: bool = field(False, help="Add a learned offset.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map from the features that come in to the width."""
        super().__init__(params, context)
        self.map = nn.Linear(context.features, context.width, bias=params.bias)

    def output_weights(self) -> list[str]:
        """Return the map and its bias."""
        return [name for name, _ in self.named_parameters() if name.startswith("map.")]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Map the features of each position of (B, L, D)."""
        y_BLD: Tensor = self.map(x_BLD)
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up the columns of the map, each times its feature."""
        (x_BLD,) = inputs
        y_BLD = torch.einsum("bli,oi->blo", x_BLD, self.map.weight)
        return y_BLD + self.map.bias if self.params.bias else y_BLD
