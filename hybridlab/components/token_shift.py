"""The token shift of RWKV: every position sees a part of the one before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def previous(x_BLD: Tensor) -> Tensor:
    """Return (B, L, D) moved on by one position, with zeros at the first."""
    return F.pad(x_BLD, (0, 0, 1, -1))


def following(x_BLD: Tensor) -> Tensor:
    """Return (B, L, ...) moved back by one position, with zeros at the last."""
    return F.pad(x_BLD, (0, 0) * (x_BLD.dim() - 2) + (-1, 1))


def shares(features: int, power: float) -> Tensor:
    """Return 1 - (i / D)^power: how much of the position before each feature starts with, as in a first layer."""
    return 1 - (torch.arange(features) / features) ** power


def beside(shift: Tensor, x: Tensor) -> Tensor:
    """Return M rows of shares, (M D), as (M, 1, ..., D), to mix (..., D) into (M, ..., D)."""
    return shift.view(-1, *(1 for _ in x.shape[1:]), x.shape[-1])


class LowRank(nn.Module):
    """``act(x W1) W2 + b``, a small correction that the input makes to a learned base b."""

    def __init__(self, features: int, rank: int, base: Tensor) -> None:
        """Create the maps with fan-in weights; the output starts around ``base``."""
        super().__init__()
        self.down = nn.Linear(features, rank, bias=False)
        self.up = nn.Linear(rank, base.shape[0])
        with torch.no_grad():
            self.up.bias.copy_(base)

    def forward(self, x: Tensor, *, bent: bool) -> Tensor:
        """Map (..., D) to (..., E), through tanh where ``bent``."""
        inner = self.down(x)
        y: Tensor = self.up(inner.tanh() if bent else inner)
        return y
