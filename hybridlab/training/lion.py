"""Lion: the sign of an averaged gradient, one moment (https://arxiv.org/abs/2302.06675, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
"""The paper's averaging: for the update, and for what is remembered."""


class Lion(torch.optim.Optimizer):
    """EvoLved Sign Momentum: every weight moves by the whole rate at every step, so rates are 3 to 10 times smaller.

    ``update = sign(b1 m + (1 - b1) g)``, ``w -= rate (update + decay w)``, ``m = b2 m + (1 - b2) g``. Its state is
    ``exp_avg``, the moment m, as large as the weights.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = BETAS,
        weight_decay: float = 0.0,
    ) -> None:
        """Take weights, or groups of them, as every optimiser of torch does."""
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["exp_avg"] = torch.zeros_like(weight)
            gradients: list[Any] = [weight.grad for weight in weights]
            moments = [self.state[weight]["exp_avg"] for weight in weights]
            of_update, of_memory = group["betas"]
            updates = torch._foreach_lerp(moments, gradients, 1 - of_update)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])
            torch._foreach_lerp_(moments, gradients, 1 - of_memory)
