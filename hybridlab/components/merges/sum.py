"""Sum of branches."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field
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
    """``sum_i s_i x_i`` over branches (B, L, D) of one shape; gives (B, L, D).

    Fixed ``scales``, one a branch, weigh them, as MiniMax and Granite weigh their residuals.
    """

    class Params(base.Params):
        """Parameters of ``sum``."""

        scales: list[float] | None = field(
            None, help="A fixed factor for each branch, in order; none: each counts once."
        )

    params: Params
    min_inputs = 2
    max_inputs = None

    def adds(self) -> bool:
        """Say whether each branch counts once."""
        return self.params.scales is None

    def forward(self, *branches_BLD: Tensor) -> Tensor:
        """Add branches, each (B, L, D)."""
        if self.params.scales is not None:
            scaled = zip(branches_BLD, self.params.scales, strict=True)
            branches_BLD = tuple(x_BLD * scale for x_BLD, scale in scaled)
        total_BLD, *others_BLD = branches_BLD
        for branch_BLD in others_BLD:
            total_BLD = total_BLD + branch_BLD
        return total_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem for each branch of another shape, and where branches have no scale."""
        yield from must_agree(context.inputs, features=True)
        if params.scales is not None and len(params.scales) != len(context.inputs):
            yield Problem(
                "scales",
                "there must be one for each branch",
                f"{len(context.inputs)} numbers",
                str(len(params.scales)),
                "leave scales out to add the branches as they are",
            )
