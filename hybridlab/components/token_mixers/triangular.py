"""The inverse of many small unit lower triangular matrices, in matrix products only."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 4


def unit_lower_inverse(strict_cc: Tensor) -> Tensor:
    """Return (I + A)^(-1) for strictly lower triangular A (..., c, c), c a power of two of at least 4.

    Two neighbouring blocks whose inverses T1 and T2 are known make one of twice the size: what stands
    below the diagonal is - T2 A21 T1. The series (I - A)(I + A^2)(I + A^4) ... over the whole matrix
    would need fewer steps, but its terms can be as large as binomial coefficients while the inverse is
    small (for equal keys that are written in full they reach 10^18 at c = 64), and float32 is lost. It
    is used in blocks of four alone.
    """
    size = strict_cc.shape[-1]
    small_b44 = diagonal_blocks(strict_cc, BASE).contiguous()
    square_b44 = small_b44 @ small_b44
    first_b44 = torch.eye(BASE, dtype=strict_cc.dtype, device=strict_cc.device) - small_b44
    inverse_bss = first_b44 + square_b44 @ first_b44
    half = BASE
    while half < size:
        one_bss, two_bss = torch.unflatten(inverse_bss, -3, (-1, 2)).unbind(-3)
        below_bss = diagonal_blocks(strict_cc, 2 * half)[..., half:, :half]
        joined = strict_cc.new_zeros(*one_bss.shape[:-2], 2 * half, 2 * half)
        joined[..., :half, :half] = one_bss
        joined[..., half:, half:] = two_bss
        joined[..., half:, :half] = -(two_bss @ (below_bss @ one_bss))
        inverse_bss, half = joined, 2 * half
    return inverse_bss.squeeze(-3)


def diagonal_blocks(matrix_cd: Tensor, block: int) -> Tensor:
    """Return the blocks on the diagonal of (..., c, c) as a view (..., c / block, block, block)."""
    tiled = torch.unflatten(torch.unflatten(matrix_cd, -1, (-1, block)), -3, (-1, block))
    return tiled.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
