"""Short depthwise convolution along the sequence: a part of several token mixers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.gpu_kernels import kernel_for
from hybridlab.errors import StepError


class DepthwiseConv(nn.Module):
    """Each feature of (B, L, D) convolved along L with its own taps; the length stays.

    Causal: position t sees t - kernel + 1 to t. Otherwise the window is centred, with the odd tap
    of an even kernel on the left.
    """

    def __init__(
        self, features: int, kernel: int, *, causal: bool = True, bias: bool = True
    ) -> None:
        """Create taps (D, K) and, if wanted, biases (D), uniform within 1 / sqrt(kernel), the fan-in."""
        super().__init__()
        self.left = kernel - 1 if causal else kernel // 2
        self.right = kernel - 1 - self.left
        bound = 1 / math.sqrt(kernel)
        self.taps = nn.Parameter(torch.empty(features, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features).uniform_(-bound, bound)) if bias else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Convolve (B, L, D) along L, with causal-conv1d's kernel where it is there and fits.

        (B, L, D) is what a one-pixel-high image (B, D, 1, L) looks like in channels-last memory, so
        the two-dimensional kernel reads it without a transposition.
        """
        kernel = None if self.right else kernel_for("convolution", x_BLD, self.taps)
        if kernel is not None:
            return kernel(x_BLD, self.taps, self.bias)
        padded_BLD = F.pad(x_BLD, (0, 0, self.left, self.right))
        image_BD1L = padded_BLD.transpose(1, 2).unsqueeze(2)
        taps_D11K = self.taps[:, None, None, :]
        y_BD1L = F.conv2d(image_BD1L, taps_D11K, self.bias, groups=self.taps.shape[0])
        return y_BD1L.squeeze(2).transpose(1, 2)

    def start(self, batch: int) -> Tensor:
        """Return the inputs before the first position, zeros (B, left, D)."""
        return self.taps.new_zeros(batch, self.left, self.taps.shape[0])

    def step(self, before_BWD: Tensor, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, D) at one more position, and the inputs that the next one needs.

        Raises:
            StepError: the taps reach forward.
        """
        if self.right:
            raise StepError("a centred convolution cannot run one position at a time")
        seen_BKD = torch.cat((before_BWD, x_BD.unsqueeze(1)), dim=1)
        y_BD = torch.einsum("bkd,dk->bd", seen_BKD, self.taps)
        return y_BD if self.bias is None else y_BD + self.bias, seen_BKD[:, 1:]

    def reference(self, x_BLD: Tensor) -> Tensor:
        """Add up the taps position by position."""
        positions_BD = x_BLD.unbind(1)
        taps_D = self.taps.unbind(1)
        rows_BD = []
        for t in range(len(positions_BD)):
            row_BD = torch.zeros_like(positions_BD[t])
            if self.bias is not None:
                row_BD = row_BD + self.bias
            for j, tap_D in enumerate(taps_D):
                seen = t + j - self.left
                if 0 <= seen < len(positions_BD):
                    row_BD = row_BD + tap_D * positions_BD[seen]
            rows_BD.append(row_BD)
        return torch.stack(rows_BD, 1)
