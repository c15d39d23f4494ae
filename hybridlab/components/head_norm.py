"""The norm of each head apart: what several recurrent layers do before their output gate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.errors import Problem


class HeadNorm(nn.Module):
    """A layer norm per head, with a learned scale and, where asked for, a shift per feature.

    The same as a group norm of every position with one group a head.
    """

    def __init__(self, features: int, eps: float, *, shift: bool) -> None:
        """Create the scale, ones, and the shift, zeros, for the features of all heads."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features)) if shift else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., H, V) over V; return (..., H V) in the same dtype."""
        normed = F.layer_norm(x, x.shape[-1:], eps=self.eps).flatten(-2)
        scale = self.scale.to(normed.dtype)
        if self.shift is None:
            return (normed * scale).to(x.dtype)
        return torch.addcmul(self.shift.to(normed.dtype), normed, scale).to(x.dtype)


def not_single(path: str, heads: int, features: int) -> Iterator[Problem]:
    """Yield a problem where each head has one feature, of which a norm leaves nothing but a sign or zero."""
    if features == heads:
        yield Problem(
            path,
            "a norm over the one feature of a head gives zero",
            "at most half as many heads as features",
            str(heads),
            f"try {max(1, heads // 2)}",
        )
