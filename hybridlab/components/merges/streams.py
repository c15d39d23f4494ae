"""Parallel residual streams, side by side in one sequence, and the weights that depend on them.

I streams of D features each: (B, L, I x D) on an edge, (B, L, I, D) inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridlab.components.base import BuildContext, undecayed
from hybridlab.components.root_mean_square import rms_norm
from hybridlab.errors import Problem

EPS = 1e-6
SMALL = 0.01
"""Where the factor of the dynamic weights starts."""


def as_streams(x_BLP: Tensor, streams: int, width: int) -> Tensor:
    """Return the streams (B, L, I, D) of a sequence; one of the plain width is in every stream."""
    if x_BLP.shape[-1] == width:
        return x_BLP.unsqueeze(-2).expand(*x_BLP.shape[:-1], streams, width)
    return torch.unflatten(x_BLP, -1, (streams, width))


def check_streams(context: BuildContext, streams: int) -> Iterator[Problem]:
    """Yield a problem where the first input is neither one stream nor all of them."""
    features, width = context.features, context.width
    if features not in (width, streams * width):
        yield Problem(
            "streams",
            "the sequence that comes in does not have as many streams",
            f"{width} features (all streams the same) or {streams} x {width}",
            str(features),
            f"set streams to {features // width}" if features % width == 0 else "",
        )


class StreamWeights(nn.Module):
    """``start + s tanh(norm(h) W)``: weights (B, L, I, J) that each stream gets from what it holds.

    W starts at zero. The norm is the root mean square's, without a scale, which W can take in.
    """

    def __init__(self, start_IJ: Tensor, outputs: int, width: int, dynamic: bool) -> None:
        """Create the fixed part, which starts as given, and the dynamic one, which starts at zero."""
        super().__init__()
        self.fixed = undecayed(nn.Parameter(start_IJ.clone()))
        self.map = nn.Parameter(torch.zeros(width, outputs)) if dynamic else None
        self.factor = nn.Parameter(torch.tensor([SMALL])) if dynamic else None

    def forward(self, h_BLID: Tensor) -> Tensor:
        """Return the weights (B, L, I, J), or (I, J) where they are fixed, in the dtype of the streams."""
        if self.map is None or self.factor is None:
            return self.fixed.to(h_BLID.dtype)
        seen_BLIJ = torch.tanh(rms_norm(h_BLID, None, EPS) @ self.map.to(h_BLID.dtype))
        return self.fixed.to(h_BLID.dtype) + self.factor.to(h_BLID.dtype) * seen_BLIJ

    def naive(self, h_BLD: Tensor, stream: int) -> Tensor:
        """Return the weights (B, L, J) of one stream."""
        weights_BLJ = self.fixed[stream].expand(*h_BLD.shape[:-1], -1)
        if self.map is None or self.factor is None:
            return weights_BLJ
        normed_BLD = h_BLD / (h_BLD.square().mean(-1, keepdim=True) + EPS).sqrt()
        return weights_BLJ + self.factor * torch.tanh(normed_BLD @ self.map)
