"""Products of queries and keys within a chunk, each with the decay between its two positions, and their gradient.

Position i reads position j <= i with the weight sum over K of r_i k_j exp(c_i - c_j), where r is a row (a query,
or a key that reads what earlier keys have written) and c the running sum of the log decays in the chunk. With one
decay a head that is a matrix product times a matrix of decays. With a decay for each feature of the key the
exponential is split at a reference s into exp(c_i - s) and exp(s - c_j). Where s lies between i and j, neither
factor exceeds one. Hence the halving: the second half of a block reads the first half with s at their border, and
so on down to blocks of eight. In those s is the middle, four steps away at most. Decays are kept above e^-16 a
step, which is one part in 2^23 and so what float32 cannot tell from forgetting all; then both factors stay below
e^64, far from overflow (e^88) even for large queries and keys.

Dimensions: N sequences x heads, n chunks, c positions (a power of two, at least eight), m rows a position, K features
of a key. The gradient of the running sum c needs nothing of its own: it is r dr at the rows and - k dk at the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hybridlab.components.decayed_scan import lower_decays

BLOCK = 8
SMALLEST_LOG = -16.0
"""The smallest log decay of a step where every feature has its own."""


class Level(NamedTuple):
    """In blocks of ``block`` positions those from ``row`` on read the first ``columns``, split at ``border``."""

    block: int
    row: int
    columns: int
    border: int


def levels(chunk: int) -> Iterator[Level]:
    """Yield the blocks of eight and then the halves of 16, 32 ... up to the chunk."""
    yield Level(BLOCK, 0, BLOCK, BLOCK // 2 - 1)
    half = BLOCK
    while half < chunk:
        yield Level(2 * half, half, half, half - 1)
        half *= 2


def head_decays(total_NncK: Tensor) -> Tensor | None:
    """Return exp(c_i - c_j) for j <= i (N, n, c, c) where a head has one decay; None where each feature has its own."""
    if total_NncK.shape[-1] > 1:
        return None
    return lower_decays(total_NncK.squeeze(-1), total_NncK.squeeze(-1))


def decayed_scores(
    rows_NncmK: Tensor, k_NncK: Tensor, total_NncK: Tensor, decays_Nncc: Tensor | None
) -> Tensor:
    """Return the weights (N, n, c, m, c), zero where j > i; ``decays`` is what ``head_decays`` gave."""
    chunk, many = rows_NncmK.shape[-3:-1]
    if decays_Nncc is not None:
        products = rows_NncmK.flatten(-3, -2) @ k_NncK.transpose(-1, -2)
        return torch.unflatten(products, -2, (chunk, many)).mul_(decays_Nncc.unsqueeze(-2))
    scores_Nncmc = rows_NncmK.new_zeros(*rows_NncmK.shape[:-1], chunk)
    for level in levels(chunk):
        left, right, _, _ = _factors(rows_NncmK, k_NncK, total_NncK, level)
        products = left.flatten(-3, -2) @ right.transpose(-1, -2)
        products = torch.unflatten(products, -2, (-1, many))
        if level.row == 0:
            products = products.masked_fill_(_later(products), 0)
        _place(scores_Nncmc, level).copy_(products)
    return scores_Nncmc


def decayed_scores_backward(
    grad_Nncmc: Tensor,
    rows_NncmK: Tensor,
    k_NncK: Tensor,
    total_NncK: Tensor,
    decays_Nncc: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the rows and of the keys; ``grad`` may hold anything where j > i."""
    if decays_Nncc is not None:
        grad = (grad_Nncmc * decays_Nncc.unsqueeze(-2)).flatten(-3, -2)
        grad_rows = (grad @ k_NncK).view(rows_NncmK.shape)
        return grad_rows, grad.transpose(-1, -2) @ rows_NncmK.flatten(-3, -2)
    grad_rows, grad_k = torch.empty_like(rows_NncmK), torch.empty_like(k_NncK)
    for level in levels(k_NncK.shape[-2]):
        left, right, left_decays, right_decays = _factors(rows_NncmK, k_NncK, total_NncK, level)
        grad = _place(grad_Nncmc, level)
        if level.row == 0:
            grad = grad.masked_fill(_later(grad), 0)
        grad = grad.flatten(-3, -2)
        to_rows = (grad @ right).view(left.shape).mul_(left_decays.unsqueeze(-2))
        to_k = (grad.transpose(-1, -2) @ left.flatten(-3, -2)).mul_(right_decays)
        rows_part = torch.unflatten(grad_rows, -3, (-1, level.block))[..., level.row :, :, :]
        k_part = torch.unflatten(grad_k, -2, (-1, level.block))[..., : level.columns, :]
        if level.row == 0:
            rows_part.copy_(to_rows)
            k_part.copy_(to_k)
        else:
            rows_part.add_(to_rows)
            k_part.add_(to_k)
    return grad_rows, grad_k


def _factors(
    rows_NncmK: Tensor, k_NncK: Tensor, total_NncK: Tensor, level: Level
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows and keys of a level's blocks times their decays to the border, and those decays."""
    rows, k, total = (
        torch.unflatten(part, dim, (-1, level.block))
        for part, dim in ((rows_NncmK, -3), (k_NncK, -2), (total_NncK, -2))
    )
    border = total[..., level.border : level.border + 1, :]
    left_decays = (total[..., level.row :, :] - border).exp_()
    right_decays = (border - total[..., : level.columns, :]).exp_()
    left = rows[..., level.row :, :, :] * left_decays.unsqueeze(-2)
    return left, k[..., : level.columns, :] * right_decays, left_decays, right_decays


def _place(scores_Nncmc: Tensor, level: Level) -> Tensor:
    """Return the weights of a level as a view (N, n, blocks, rows, m, columns)."""
    tiled = torch.unflatten(
        torch.unflatten(scores_Nncmc, -1, (-1, level.block)), -4, (-1, level.block)
    )
    blocks = tiled.diagonal(dim1=-5, dim2=-2).movedim(-1, -4)
    return blocks[..., level.row :, :, : level.columns]


def _later(products: Tensor) -> Tensor:
    """Return which of (..., rows, m, columns) look ahead."""
    rows, columns = products.shape[-3], products.shape[-1]
    mask = torch.ones(rows, columns, dtype=torch.bool, device=products.device).triu(1)
    return mask.unsqueeze(-2)
