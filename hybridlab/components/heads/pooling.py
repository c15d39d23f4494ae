"""What heads share: an optional final norm and a vector for the whole sequence."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hybridlab.components.root_mean_square import RootMeanSquare

Pool = Literal["mean", "last", "first"]


def final_norm(wanted: bool, features: int) -> nn.Module:
    """Return an RMS norm over ``features``, or the identity where it is not wanted."""
    return RootMeanSquare(features) if wanted else nn.Identity()


def pool(x_BLD: Tensor, how: Pool) -> Tensor:
    """Reduce (B, L, D) to (B, D): the mean over positions, the last one, or the first one."""
    if how == "mean":
        return x_BLD.mean(dim=1)
    return x_BLD[:, -1] if how == "last" else x_BLD[:, 0]
