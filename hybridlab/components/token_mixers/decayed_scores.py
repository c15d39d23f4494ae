"""Products of queries and keys within a chunk, each with the decay between its two positions, and their gradient.

Position i reads position j <= i with the weight sum over K of r_i k_j exp(c_i - c_j), where r is a row (a query,
or a key that reads what earlier keys have written) and c the running sum of the log decays in the chunk. With one
decay a head that is a matrix product times a matrix of decays. With a decay for each feature of the key the
exponential is split at a reference s into exp(c_i - s) and exp(s - c_j). Where s lies between i and j, neither
factor exceeds one. Hence the halving: the second half of a block reads the first half with s at their border, and
so on down to blocks of eight. In those s is the middle, four steps away at most. Decays are kept above e^-16 a
step, which is one part in 2^23 and so what float32 cannot tell from forgetting all; then both factors stay below
e^64, far from overflow (e^88) even for large queries and keys. The factors of wider blocks are those of the blocks
of eight, taken once (``Local``), times one number a block of eight and feature.

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
    """In blocks of ``block`` positions those from ``row`` on read the first ``columns``."""

    block: int
    row: int
    columns: int


def levels(chunk: int) -> Iterator[Level]:
    """Yield the blocks of eight and then the halves of 16, 32 ... up to the chunk."""
    yield Level(BLOCK, 0, BLOCK)
    half = BLOCK
    while half < chunk:
        yield Level(2 * half, half, half)
        half *= 2


def head_decays(total_NncK: Tensor) -> Tensor | None:
    """Return exp(c_i - c_j) for j <= i (N, n, c, c) where a head has one decay; None where each feature has its own."""
    if total_NncK.shape[-1] > 1:
        return None
    return lower_decays(total_NncK.squeeze(-1), total_NncK.squeeze(-1))


class Local(NamedTuple):
    """Rows and keys times their decays to the middles of the blocks of eight that hold them."""

    rows: Tensor
    """Rows times ``decays`` (N, n, c, m, K)."""
    keys: Tensor
    """Keys over ``decays`` (N, n, c, K)."""
    decays: Tensor
    """exp(c_i - s), s the running sum at the middle of i's block (N, n, c, K)."""
    middles: Tensor
    """s of each block of eight (N, n, c / 8, K)."""
    ends: Tensor
    """The running sum at the end of each block of eight (N, n, c / 8, K)."""


def local_factors(rows_NncmK: Tensor, k_NncK: Tensor, total_NncK: Tensor) -> Local:
    """Return rows and keys split at the middles of their blocks of eight; each feature has its own decay."""
    blocks = torch.unflatten(total_NncK, -2, (-1, BLOCK))
    middles = blocks[..., BLOCK // 2 - 1, :]
    decays = (blocks - middles.unsqueeze(-2)).exp_().flatten(-3, -2)
    return Local(
        rows_NncmK * decays.unsqueeze(-2), k_NncK / decays, decays, middles, blocks[..., -1, :]
    )


def decayed_scores(
    rows_NncmK: Tensor, k_NncK: Tensor, total_NncK: Tensor, decays_Nncc: Tensor | None
) -> Tensor:
    """Return the weights (N, n, c, m, c), zero where j > i; ``decays`` is what ``head_decays`` gave."""
    if decays_Nncc is None:
        return feature_scores(local_factors(rows_NncmK, k_NncK, total_NncK))
    products = rows_NncmK.flatten(-3, -2) @ k_NncK.transpose(-1, -2)
    return torch.unflatten(products, -2, rows_NncmK.shape[-3:-1]).mul_(decays_Nncc.unsqueeze(-2))


def feature_scores(local: Local) -> Tensor:
    """Return the weights (N, n, c, m, c), zero where j > i, where each feature has its own decay."""
    rows_NncmK = local.rows
    chunk, many = rows_NncmK.shape[-3:-1]
    scores_Nncmc = rows_NncmK.new_zeros(*rows_NncmK.shape[:-1], chunk)
    for level in levels(chunk):
        left, right, _ = _factors(local, level)
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
    local = local_factors(rows_NncmK, k_NncK, total_NncK)
    grad_rows, grad_k = feature_scores_backward(grad_Nncmc, local)
    return grad_rows.mul_(local.decays.unsqueeze(-2)), grad_k.div_(local.decays)


def feature_scores_backward(grad_Nncmc: Tensor, local: Local) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``local.rows`` and ``local.keys``; ``grad`` may hold anything where j > i."""
    grad_rows, grad_k = torch.empty_like(local.rows), torch.empty_like(local.keys)
    for level in levels(local.keys.shape[-2]):
        left, right, decays = _factors(local, level)
        grad = _place(grad_Nncmc, level)
        if level.row == 0:
            grad = grad.masked_fill(_later(grad), 0)
        grad = grad.flatten(-3, -2)
        to_rows = (grad @ right).view(left.shape)
        to_k = grad.transpose(-1, -2) @ left.flatten(-3, -2)
        rows_part = torch.unflatten(grad_rows, -3, (-1, level.block))[..., level.row :, :, :]
        k_part = torch.unflatten(grad_k, -2, (-1, level.block))[..., : level.columns, :]
        if decays is None:
            rows_part.copy_(to_rows)
            k_part.copy_(to_k)
        else:
            of_rows, of_keys = decays
            by_eights(rows_part, -3).addcmul_(by_eights(to_rows, -3), of_rows.unsqueeze(-2))
            by_eights(k_part, -2).addcmul_(by_eights(to_k, -2), of_keys)
    return grad_rows, grad_k


def by_eights(x_NncK: Tensor, dim: int = -2) -> Tensor:
    """Cut the positions of a chunk into blocks of eight."""
    return torch.unflatten(x_NncK, dim, (-1, BLOCK))


def _factors(local: Local, level: Level) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Return rows and keys of a level's blocks times their decays to its border, and what this took beyond ``local``.

    Rows are (..., blocks, rows, m, K), keys (..., blocks, columns, K); the decays from the middles of blocks of eight
    to the border (..., blocks, eights, 1, K), for rows and for keys, none in blocks of eight themselves.
    """
    rows = torch.unflatten(local.rows, -3, (-1, level.block))[..., level.row :, :, :]
    keys = torch.unflatten(local.keys, -2, (-1, level.block))[..., : level.columns, :]
    if level.block == BLOCK:
        return rows, keys, None
    many = level.block // BLOCK
    middles, ends = (torch.unflatten(part, -2, (-1, many)) for part in (local.middles, local.ends))
    border = ends[..., many // 2 - 1 : many // 2, :]
    of_rows = (middles[..., many // 2 :, :] - border).exp_().unsqueeze(-2)
    of_keys = (border - middles[..., : many // 2, :]).exp_().unsqueeze(-2)
    left = by_eights(rows, -3) * of_rows.unsqueeze(-2)
    right = by_eights(keys) * of_keys
    return left.flatten(-4, -3), right.flatten(-3, -2), (of_rows, of_keys)


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
