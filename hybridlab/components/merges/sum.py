"""Sum of branches."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component
from hybridlab.components.merges.agreement import must_agree
from hybridlab.errors import Problem


@component(
    "sum",
    kind="merge",
    title="Sum",
    summary="Adds two or more branches, as a residual connection does.",
    cost="linear",
    paper="https://arxiv.org/abs/1512.03385",
)
class Sum(Component):
    """Adds branches (B, L, D) of one shape; gives (B, L, D)."""

    class Params(base.Params):
        """``sum`` has no parameters."""

    min_inputs = 2
    max_inputs = None

    def forward(self, *branches_BLD: Tensor) -> Tensor:
        """Add branches, each (B, L, D)."""
        total_BLD, *others_BLD = branches_BLD
        for branch_BLD in others_BLD:
            total_BLD = total_BLD + branch_BLD
        return total_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem for each branch of another shape."""
        yield from must_agree(context.inputs, features=True)
