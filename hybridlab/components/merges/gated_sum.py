"""Gated sum: learned shares of branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, undecayed
from hybridlab.components.merges.agreement import must_agree
from hybridlab.components.root_mean_square import rms_norm
from hybridlab.errors import Problem

EPS = 1e-6


@component(
    "gated_sum",
    kind="merge",
    title="Gated sum",
    summary="Averages two or more branches with learned shares, each branch normalised first.",
    cost="linear",
    paper="https://arxiv.org/abs/2411.13676",
)
class GatedSum(Component):
    """``sum_i share_i * norm_i(x_i)``, shares a softmax over branches; I branches (B, L, D).

    The shares start equal, which with norms is Hymba's ``(norm(attention) + norm(ssm)) / 2``.
    """

    class Params(base.Params):
        """Parameters of ``gated_sum``."""

        gate: Literal["channel", "scalar"] = field(
            "channel", help="A share per feature, or one per branch."
        )
        norm: bool = field(
            True,
            help="Normalise each branch first, so that none drowns the others by its size.",
            search=[True, False],
        )

    params: Params
    openings: tuple[float, ...] | None = None
    """How far each branch is let in, None: all are; the shares of those that are sum to one."""
    min_inputs = 2
    max_inputs = None

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the gates, which start at zero, and the norms' scales, which start at one."""
        super().__init__(params, context)
        branches, features = len(context.inputs), context.features
        gates = torch.zeros(branches, features if params.gate == "channel" else 1)
        self.gates = undecayed(nn.Parameter(gates))
        ones = torch.ones(branches, features)
        self.scales = undecayed(nn.Parameter(ones)) if params.norm else None

    def forward(self, *branches_BLD: Tensor) -> Tensor:
        """Average branches, each (B, L, D)."""
        shares_ID = self._let_in(self.gates.softmax(0))
        if self.scales is not None:
            scales_D = (shares_ID * self.scales).unbind(0)
            parts_BLD = [rms_norm(x, s, EPS) for x, s in zip(branches_BLD, scales_D, strict=True)]
        else:
            shares_D = shares_ID.unbind(0)
            parts_BLD = [x * share for x, share in zip(branches_BLD, shares_D, strict=True)]
        total_BLD, *others_BLD = parts_BLD
        for part_BLD in others_BLD:
            total_BLD = total_BLD + part_BLD
        return total_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the formula as written."""
        weights_ID = self._let_in(self.gates.exp() / self.gates.exp().sum(0))
        total_BLD = torch.zeros_like(inputs[0])
        for i, x_BLD in enumerate(inputs):
            branch_BLD = x_BLD
            if self.scales is not None:
                mean_square_BL1 = x_BLD.square().mean(-1, keepdim=True)
                branch_BLD = x_BLD / (mean_square_BL1 + EPS).sqrt() * self.scales[i]
            total_BLD = total_BLD + weights_ID[i] * branch_BLD
        return total_BLD

    def _let_in(self, shares_ID: Tensor) -> Tensor:
        """Return the shares of branches that are not all open."""
        if self.openings is None:
            return shares_ID
        open_ID = shares_ID * shares_ID.new_tensor(self.openings).unsqueeze(-1)
        return open_ID / open_ID.sum(0)

    def let_in(self, branch: int, share: float) -> bool:
        """Give a branch only so much of its share; the others take what is left."""
        now = list(self.openings or [1.0] * len(self.gates))
        now[branch] = share
        self.openings = None if all(one == 1.0 for one in now) else tuple(now)
        return True

    def output_weights(self) -> list[str]:
        """Return the norms' scales, with which the sum scales; without norms there is no last map."""
        return [] if self.scales is None else ["scales"]

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem for each branch of another shape."""
        yield from must_agree(context.inputs, features=True)
