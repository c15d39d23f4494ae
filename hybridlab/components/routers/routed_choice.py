"""Routed choice: at each position, one of several branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, component, field, float_dtype
from hybridlab.components.merges.agreement import must_agree
from hybridlab.components.root_mean_square import rms_norm
from hybridlab.errors import Problem

EPS = 1e-6


@component(
    "routed_choice",
    kind="router",
    title="Routed choice",
    summary="A learned router picks one of two or more branches at each position.",
    cost="linear",
    paper="https://arxiv.org/abs/2101.03961",
)
class RoutedChoice(Component):
    """The branch i with the largest ``p = softmax(router(x_1 ... x_I))``; I branches (B, L, D) to (B, L, D).

    The router is linear in all branches, each over its root mean square, and computes in float32.
    ``weighted``: the chosen branch times its probability, as Switch weighs its expert.
    ``straight_through``: the chosen branch as it is, with the gradient to the router that a mean over
    branches, weighted by p, would have (https://arxiv.org/abs/1308.3432). All branches are computed
    everywhere: a choice saves no work, it tells which branch is good for what. A loss, that of Switch,
    spreads positions over the branches.
    """

    class Params(base.Params):
        """Parameters of ``routed_choice``."""

        output: Literal["weighted", "straight_through"] = field(
            "weighted",
            help="Give the chosen branch times its probability, or as it is.",
            search=["weighted", "straight_through"],
        )
        balance_weight: float = field(
            0.01,
            help="Weight of the loss that spreads positions evenly over the branches; 0: none.",
            ge=0,
            le=10,
            search=[0.0, 0.01],
        )

    params: Params
    min_inputs = 2
    max_inputs = None

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the router."""
        super().__init__(params, context)
        branches = len(context.inputs)
        self.router = nn.Linear(branches * context.features, branches, bias=False)
        self._balance: Tensor | None = None
        self._load_I: Tensor | None = None
        self._entropy: Tensor | None = None

    def forward(self, *branches_BLD: Tensor) -> Tensor:
        """Choose among branches, each (B, L, D), at each position."""
        p_BLI = self._probabilities(branches_BLD)
        best_BL1, chosen_BL1 = p_BLI.max(-1, keepdim=True)
        ones_BLI = torch.zeros_like(p_BLI).scatter(-1, chosen_BL1, 1.0)
        self._load_I = ones_BLI.mean((0, 1)).detach()
        self._balance = len(branches_BLD) * (self._load_I * p_BLI.mean((0, 1))).sum()
        self._entropy = torch.special.entr(p_BLI.detach()).sum(-1).mean()
        if self.params.output == "straight_through":
            parts_BL1 = torch.split(ones_BLI + (p_BLI - p_BLI.detach()), 1, dim=-1)
            y_BLD: Tensor = parts_BL1[0].to(branches_BLD[0].dtype) * branches_BLD[0]
            for part_BL1, x_BLD in zip(parts_BL1[1:], branches_BLD[1:], strict=True):
                y_BLD = y_BLD + part_BL1.to(x_BLD.dtype) * x_BLD
            return y_BLD
        y_BLD = branches_BLD[0]
        for i, x_BLD in enumerate(branches_BLD[1:], start=1):
            y_BLD = torch.where(chosen_BL1 == i, x_BLD, y_BLD)
        return best_BL1.to(y_BLD.dtype) * y_BLD

    def _probabilities(self, branches_BLD: tuple[Tensor, ...]) -> Tensor:
        """Return p (B, L, I) in float32 or better."""
        wide = float_dtype(branches_BLD[0])
        normed_BLD = [rms_norm(x_BLD.to(wide), None, EPS) for x_BLD in branches_BLD]
        with torch.autocast(branches_BLD[0].device.type, enabled=False):
            logits_BLI = F.linear(torch.cat(normed_BLD, dim=-1), self.router.weight.to(wide))
        return logits_BLI.softmax(-1)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up branches by weights of which at most one is not zero."""
        logits_BLI = torch.zeros_like(inputs[0][..., :1])
        for x_BLD, w_ID in zip(inputs, self.router.weight.chunk(len(inputs), 1), strict=True):
            size_BL1 = (x_BLD.square().mean(-1, keepdim=True) + EPS).sqrt()
            logits_BLI = logits_BLI + x_BLD / size_BL1 @ w_ID.T
        p_BLI = logits_BLI.exp() / logits_BLI.exp().sum(-1, keepdim=True)
        y_BLD = torch.zeros_like(inputs[0])
        for i, x_BLD in enumerate(inputs):
            p_BL1 = p_BLI[..., i, None]
            chosen_BL1 = (p_BLI <= p_BL1).all(-1, keepdim=True)
            if self.params.output == "weighted":
                y_BLD = y_BLD + p_BL1 * chosen_BL1 * x_BLD
            else:
                mean_BLD = p_BL1 * x_BLD.detach()
                y_BLD = y_BLD + chosen_BL1 * x_BLD + mean_BLD - mean_BLD.detach()
        return y_BLD

    def aux_loss(self) -> Tensor | None:
        """Return weight x I x sum over branches of (share of positions x mean probability)."""
        if self._balance is None or not self.params.balance_weight:
            return None
        return self.params.balance_weight * self._balance

    def report(self) -> dict[str, float | list[float]]:
        """Return each branch's share of the positions (``load``) and the router's entropy in nats."""
        if self._load_I is None or self._entropy is None:
            return {}
        load: list[float] = self._load_I.tolist()
        return {
            "load": load,
            "max_load": max(load) * len(load),
            "router_entropy": float(self._entropy),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_balance": None, "_load_I": None, "_entropy": None}

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem for each branch of another shape."""
        yield from must_agree(context.inputs, features=True)
