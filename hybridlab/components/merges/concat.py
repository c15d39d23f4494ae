"""Concatenation of branches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
from hybridlab.components.merges.agreement import must_agree
from hybridlab.errors import Problem


@component(
    "concat",
    kind="merge",
    title="Concatenate",
    summary="Puts the features of two or more branches side by side and projects them back.",
    cost="linear",
    paper="https://arxiv.org/abs/1608.06993",
)
class Concat(Component):
    """Branches (B, L, D1), (B, L, D2) ... to (B, L, D), or to (B, L, D1 + D2 ...) unprojected.

    ``[x_1, x_2, ...] W``, side by side in the order of the inputs.
    """

    class Params(base.Params):
        """Parameters of ``concat``."""

        project: bool = field(
            True, help="Project back to the width; otherwise the features of all branches remain."
        )

    params: Params
    min_inputs = 2
    max_inputs = None

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the projection, if wanted."""
        super().__init__(params, context)
        features = sum(branch.features for branch in context.inputs)
        self.projection = (
            nn.Linear(features, context.width, bias=False) if params.project else nn.Identity()
        )

    def forward(self, *branches: Tensor) -> Tensor:
        """Join branches (B, L, D1), (B, L, D2) ... along their features."""
        y_BLD: Tensor = self.projection(torch.cat(branches, dim=-1))
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up each branch times its share of the projection's columns."""
        if not self.params.project:
            return torch.cat(inputs, dim=-1)
        (weight_DP,) = self.projection.parameters()
        columns = torch.split(weight_DP, [x.shape[-1] for x in inputs], dim=1)
        products_BLD = [x @ w.T for x, w in zip(inputs, columns, strict=True)]
        return torch.stack(products_BLD).sum(0)

    def output_weights(self) -> list[str]:
        """Return the projection, where there is one."""
        return ["projection.weight"] if self.params.project else []

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem for each branch of another length."""
        yield from must_agree(context.inputs, features=False)
