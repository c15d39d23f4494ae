"""Mixture of depths: a layer that only some positions pass through."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.channel_mixers.expert_layers import over_batch
from hybridlab.components.channel_mixers.hidden_size import hidden_size


@component(
    "mixture_of_depths",
    kind="channel_mixer",
    title="Mixture of depths",
    summary="A SwiGLU layer for the positions that need it; the others pass by.",
    cost="linear",
    paper="https://arxiv.org/abs/2404.02258",
)
class MixtureOfDepths(Component):
    """``r(x) f(x)`` where a position is chosen and 0 elsewhere, (B, L, D) to (B, L, D); f a SwiGLU.

    The router r is linear, computed in float32. Of the paper this is the feed-forward half of a block:
    attention sees all positions. ``threshold``: positions with r > 0 are chosen, each on its own; a
    loss, the paper's for sampling, teaches the router to be positive for the share of each sequence
    that has the largest r, so that the share used comes near the one asked for. ``top_k``: exactly
    that share is chosen, as the paper trains; whether a position is depends on later ones, so this is
    not causal.
    """

    class Params(base.Params):
        """Parameters of ``mixture_of_depths``."""

        capacity: float = field(
            0.125,
            help="Share of the positions of a sequence that pass through the layer.",
            gt=0,
            le=1,
            search=[0.125, 0.25, 0.5],
        )
        choice: Literal["threshold", "top_k"] = field(
            "threshold",
            help="threshold: each position on its own; top_k: the best of the sequence, which "
            "looks ahead.",
        )
        ratio: float = field(
            8 / 3,
            help="Hidden features per feature of the width, rounded to a multiple of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[4 / 3, 8 / 3],
        )
        router_weight: float = field(
            0.01,
            help="Weight of the loss that teaches the threshold; 0: none.",
            ge=0,
            le=10,
            search=[0.001, 0.01, 0.1],
        )

    data_decides = (
        "the share asked for is expected to be chosen; before its router has learned, a threshold "
        "chooses about half of the positions"
    )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the router and the layer."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.router = nn.Linear(context.features, 1, bias=False)
        self.project_in = nn.Linear(context.features, 2 * hidden, bias=False)
        self.project_out = nn.Linear(hidden, context.width, bias=False)
        self._loss: Tensor | None = None
        self._used: Tensor | None = None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Send the chosen positions of (B, L, D) through the layer."""
        r_BL = self._router(x_BLD)
        best_BC = r_BL.topk(_count(self.params.capacity, r_BL.shape[1]), dim=1).indices
        if self.params.choice == "top_k":
            chosen_S = over_batch(best_BC, r_BL.shape[1])
            self._used = torch.full_like(r_BL[0, 0], best_BC.shape[1] / r_BL.shape[1]).detach()
        else:
            wanted_BL = torch.zeros_like(r_BL).scatter(1, best_BC, 1.0)
            self._loss = F.binary_cross_entropy_with_logits(r_BL, wanted_BL.detach())
            chosen_S = self._above(r_BL)
        x_SD = x_BLD.flatten(0, 1).index_select(0, chosen_S)
        gate_SF, value_SF = self.project_in(x_SD).chunk(2, dim=-1)
        y_SD: Tensor = self.project_out(F.silu(gate_SF) * value_SF)
        y_SD = y_SD * r_BL.flatten().index_select(0, chosen_S).unsqueeze(-1).to(y_SD.dtype)
        y_TD = y_SD.new_zeros(r_BL.numel(), y_SD.shape[-1]).index_copy(0, chosen_S, y_SD)
        return y_TD.view(*r_BL.shape, -1)

    def _router(self, x_BLD: Tensor) -> Tensor:
        """Return r (B, L) in float32 or better."""
        wide = float_dtype(x_BLD)
        with torch.autocast(x_BLD.device.type, enabled=False):
            return F.linear(x_BLD.to(wide), self.router.weight.to(wide)).squeeze(-1)

    def _above(self, r_BL: Tensor) -> Tensor:
        """Return the flat indices of positions with r > 0; the share asked for where there is no data."""
        above_T = (r_BL > 0).flatten()
        self._used = above_T.to(r_BL.dtype).mean()
        if isinstance(r_BL, FakeTensor) or r_BL.is_meta:
            count = r_BL.shape[0] * _count(self.params.capacity, r_BL.shape[1])
            return above_T.nonzero_static(size=count).squeeze(-1)
        return above_T.nonzero().squeeze(-1)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the layer everywhere and keep the chosen positions by a mask."""
        (x_BLD,) = inputs
        r_BL = self._router(x_BLD)
        chosen_BL = r_BL > 0
        if self.params.choice == "top_k":
            larger_BL = (r_BL.unsqueeze(-2) > r_BL.unsqueeze(-1)).sum(-1)
            chosen_BL = larger_BL < _count(self.params.capacity, r_BL.shape[1])
        w_FD, v_FD = self.project_in.weight.chunk(2, dim=0)
        gate_BLF = x_BLD @ w_FD.T
        hidden_BLF = gate_BLF * gate_BLF.sigmoid() * (x_BLD @ v_FD.T)
        return (r_BL * chosen_BL).unsqueeze(-1) * (hidden_BLF @ self.project_out.weight.T)

    def aux_loss(self) -> Tensor | None:
        """Return the weighted cross entropy of r against being among the best of the sequence."""
        if self._loss is None or not self.params.router_weight:
            return None
        return self.params.router_weight * self._loss

    def report(self) -> dict[str, float | list[float]]:
        """Return ``share_used``, the share of positions that went through the layer."""
        return {} if self._used is None else {"share_used": float(self._used)}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_loss": None, "_used": None}

    @classmethod
    def causal(cls, params: Params) -> bool | None:
        """The best of a sequence are known at its end; a threshold is each position's own."""
        return False if params.choice == "top_k" else None


def _count(share: float, length: int) -> int:
    """Return how many positions of a sequence a share is, at least one."""
    return max(1, math.floor(share * length))
