"""What heads share: an optional final norm and a vector for the whole sequence."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.components.root_mean_square import RootMeanSquare

Pool = Literal["mean", "last", "first"]


def final_norm(wanted: bool, features: int) -> nn.Module:
    """Return an RMS norm over ``features``, or the identity where it is not wanted."""
    return RootMeanSquare(features) if wanted else nn.Identity()


def pool(x_BLD: Tensor, how: Pool, ends_B: Tensor | None = None) -> Tensor:
    """Reduce (B, L, D) to (B, D): the mean over positions, the last one, or the first one.

    With ``ends_B`` these are positions before each sample's end.
    """
    if how == "first":
        return x_BLD[:, 0]
    if ends_B is None:
        return x_BLD.mean(dim=1) if how == "mean" else x_BLD[:, -1]
    positions_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
    if how == "last":
        wanted_BL = positions_L == ends_B[:, None] - 1
        return torch.where(wanted_BL.unsqueeze(-1), x_BLD, 0.0).sum(1)
    own_BL = positions_L < ends_B[:, None]
    sums_BD = torch.where(own_BL.unsqueeze(-1), x_BLD, 0.0).sum(1)
    return sums_BD / ends_B[:, None]
