"""Mixture of experts: each position is worked on by its few best experts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.channel_mixers.hidden_size import hidden_size
from hybridlab.errors import Problem


@component(
    "moe",
    kind="channel_mixer",
    title="Mixture of experts",
    summary="A router sends each position to its best few of many SwiGLU layers.",
    cost="linear",
    paper="https://arxiv.org/abs/2101.03961",
)
class MixtureOfExperts(Component):
    """Top-k routing over E SwiGLU experts, (B, L, D) to (B, L, D); T = B x L positions.

    The weights of the chosen experts are their softmax probabilities, made to sum to one
    (https://arxiv.org/abs/2401.04088); with ``top_k: 1`` the probability itself, as Switch has it,
    so that the router learns from the task. The router computes in float32, because its choices
    jump. No position is dropped.

    Positions are sorted by expert and each expert runs once on its own. How many it gets depends on
    the data; fake tensors have none, so a prediction gives every expert T k / E, its expectation
    under a balanced router: operations and bytes in total are then those of any real routing.
    """

    class Params(base.Params):
        """Parameters of ``moe``."""

        experts: int = field(4, help="Number of experts.", ge=1, le=1024, search=[2, 4, 8, 16])
        top_k: int = field(2, help="Experts that work on a position.", ge=1, le=64, search=[1, 2])
        ratio: float = field(
            8 / 3,
            help="Hidden features of one expert per feature of the width, rounded to a multiple "
            "of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[2 / 3, 4 / 3, 8 / 3],
        )
        balance_weight: float = field(
            0.01,
            help="Weight of the loss that spreads positions evenly over the experts; 0: none.",
            ge=0,
            le=10,
            search=[0.001, 0.01, 0.1],
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the router and the experts, each uniform within 1 / sqrt(fan-in)."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.router = nn.Linear(context.features, params.experts, bias=False)
        self.experts_in = _experts(params.experts, context.features, 2 * hidden)
        self.experts_out = _experts(params.experts, hidden, context.width)
        self._balance: Tensor | None = None
        self._load_E: Tensor | None = None
        self._entropy: Tensor | None = None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Send each position of (B, L, D) through its experts."""
        x_TD = x_BLD.flatten(0, 1)
        weights_Tk, chosen_Tk = self._route(x_TD)
        order_S = chosen_Tk.flatten().argsort(stable=True)
        x_SD = x_TD.index_select(0, order_S // self.params.top_k)
        y_SD = torch.cat(
            [
                _expert(part_SD, in_DF, out_FD)
                for part_SD, in_DF, out_FD in zip(
                    torch.split(x_SD, self._counts(chosen_Tk)),
                    self.experts_in.unbind(0),
                    self.experts_out.unbind(0),
                    strict=True,
                )
            ]
        )
        y_TkD = y_SD.index_select(0, order_S.argsort()).view(*chosen_Tk.shape, -1)
        y_TD = torch.einsum("tk,tkd->td", weights_Tk.to(y_TkD.dtype), y_TkD)
        return y_TD.view(*x_BLD.shape[:-1], -1)

    def _route(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and indices (T, k) of the chosen experts; keep balance and load."""
        wide = float_dtype(x_TD)
        with torch.autocast(x_TD.device.type, enabled=False):
            logits_TE = F.linear(x_TD.to(wide), self.router.weight.to(wide))
        probabilities_TE = logits_TE.softmax(-1)
        weights_Tk, chosen_Tk = probabilities_TE.topk(self.params.top_k, dim=-1)
        if self.params.top_k > 1:
            weights_Tk = weights_Tk / weights_Tk.sum(-1, keepdim=True)
        experts_E = torch.arange(self.params.experts, device=x_TD.device)
        chosen_TE = (chosen_Tk.unsqueeze(-1) == experts_E).any(1)
        self._load_E = chosen_TE.to(probabilities_TE.dtype).mean(0) / self.params.top_k
        self._entropy = torch.special.entr(probabilities_TE.detach()).sum(-1).mean()
        mean_probability_E = probabilities_TE.mean(0)
        self._balance = self.params.experts * (self._load_E * mean_probability_E).sum()
        return weights_Tk, chosen_Tk

    def _counts(self, chosen_Tk: Tensor) -> list[int]:
        """Return how many positions each expert gets; an even share where there is no data."""
        experts, total = self.params.experts, chosen_Tk.numel()
        if isinstance(chosen_Tk, FakeTensor) or chosen_Tk.is_meta:
            return [(e + 1) * total // experts - e * total // experts for e in range(experts)]
        ids_E = torch.arange(experts, device=chosen_Tk.device)
        counts: list[int] = (chosen_Tk.flatten() == ids_E[:, None]).sum(1).tolist()
        return counts

    def reference(self, *inputs: Tensor) -> Tensor:
        """Run every expert on every position and keep the chosen ones by a mask."""
        (x_BLD,) = inputs
        weights_Tk, chosen_Tk = self._route(x_BLD.flatten(0, 1))
        weights_BLk = weights_Tk.view(*x_BLD.shape[:2], -1)
        chosen_BLk = chosen_Tk.view(*x_BLD.shape[:2], -1)
        y_BLD = x_BLD.new_zeros(*x_BLD.shape[:2], self.context.width)
        for expert in range(self.params.experts):
            weight_BL1 = (weights_BLk * (chosen_BLk == expert)).sum(-1, keepdim=True)
            gate_BLF, value_BLF = (x_BLD @ self.experts_in[expert]).chunk(2, dim=-1)
            hidden_BLF = gate_BLF * gate_BLF.sigmoid() * value_BLF
            y_BLD = y_BLD + weight_BL1 * (hidden_BLF @ self.experts_out[expert])
        return y_BLD

    def aux_loss(self) -> Tensor | None:
        """Return weight x E x sum over experts of (share of positions x mean probability).

        It is at least ``balance_weight``, which it reaches when all experts get the same.
        """
        if self._balance is None or not self.params.balance_weight:
            return None
        return self.params.balance_weight * self._balance

    def report(self) -> dict[str, float | list[float]]:
        """Return each expert's share of the load, the largest over the mean, and the entropy.

        ``max_load`` is 1 where all experts work the same; ``router_entropy`` is in nats, at most
        ln(E).
        """
        if self._load_E is None or self._entropy is None:
            return {}
        load: list[float] = self._load_E.tolist()
        return {
            "load": load,
            "max_load": max(load) * len(load),
            "router_entropy": float(self._entropy),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_balance": None, "_load_E": None, "_entropy": None}

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where more experts are chosen than there are."""
        if params.top_k > params.experts:
            yield Problem(
                "top_k",
                "cannot choose more experts than there are",
                f"at most {params.experts}",
                str(params.top_k),
                f"lower top_k to {params.experts} or raise experts",
            )


def _experts(count: int, rows: int, columns: int) -> nn.Parameter:
    """Return weights (E, rows, columns), uniform within 1 / sqrt(rows)."""
    bound = 1 / math.sqrt(rows)
    return nn.Parameter(torch.empty(count, rows, columns).uniform_(-bound, bound))


def _expert(x_SD: Tensor, in_DF: Tensor, out_FD: Tensor) -> Tensor:
    """Compute one SwiGLU expert on its positions (S, D)."""
    gate_SF, value_SF = (x_SD @ in_DF).chunk(2, dim=-1)
    return (F.silu(gate_SF) * value_SF) @ out_FD
