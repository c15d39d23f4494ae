"""Skip: a value under a name of its own."""

from __future__ import annotations

from torch import Tensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component


@component(
    "skip",
    kind="router",
    title="Skip",
    summary="Gives what it reads, under a name that nodes further on, also in groups, can read.",
    cost="linear",
    paper="https://arxiv.org/abs/1505.00387",
)
class Skip(Component):
    """The input itself, ``y = x``, (B, L, D) to (B, L, D), at no cost.

    Inside a group ``input`` is what enters that group. What enters the architecture has no name there
    but through this.
    """

    class Params(base.Params):
        """Parameters of ``skip``: there are none."""

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create nothing."""
        super().__init__(params, context)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return (B, L, D) as it is."""
        return x_BLD

    def adds(self) -> bool:
        """Say that it is a sum of one."""
        return True
