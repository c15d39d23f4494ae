"""Rotary positions: queries and keys turn by angles that grow with position.

https://arxiv.org/abs/2104.09864
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x_BHLK: Tensor, frequency_base: float, first: Tensor | int = 0) -> Tensor:
    """Turn each pair of features (i, i + K/2) of (B, H, L, K) by position x base^(-2i/K).

    ``first`` is the position of the first of the L.
    """
    length, size = x_BHLK.shape[-2:]
    half = size // 2
    exponents_R = torch.arange(half, device=x_BHLK.device, dtype=torch.float32) / half
    positions_L = torch.arange(length, device=x_BHLK.device, dtype=torch.float32) + first
    angles_LR = positions_L[:, None] * frequency_base**-exponents_R
    cos_LR, sin_LR = angles_LR.cos().to(x_BHLK.dtype), angles_LR.sin().to(x_BHLK.dtype)
    a_BHLR, b_BHLR = x_BHLK.chunk(2, dim=-1)
    return torch.cat((a_BHLR * cos_LR - b_BHLR * sin_LR, a_BHLR * sin_LR + b_BHLR * cos_LR), dim=-1)
