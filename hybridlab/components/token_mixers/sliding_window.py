"""Attention within a window, in blocks, so that its cost is linear in length.

https://arxiv.org/abs/2004.05150
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_attention(
    q_BHLK: Tensor,
    k_BGLK: Tensor,
    v_BGLK: Tensor,
    window: int,
    *,
    causal: bool,
    scale: float | None = None,
) -> Tensor:
    """Attend within ``window`` positions: t - window + 1 to t, or to t + window - 1 if not causal.

    Sequences longer than two windows are cut into blocks of one window; a block of queries sees its
    own keys and those of the block before it (and after it if not causal).

    Args:
        q_BHLK: queries (B, H, L, K).
        k_BGLK: keys (B, G, L, K), G dividing H.
        v_BGLK: values (B, G, L, K).
        window: positions a query sees on one side, itself included.
        causal: whether later positions are hidden.
        scale: factor on the products; None: 1 / sqrt(K).

    Returns:
        (B, H, L, K).
    """
    gqa = q_BHLK.shape[1] != k_BGLK.shape[1]
    length = q_BHLK.shape[2]
    positions_L = torch.arange(length, device=q_BHLK.device)
    if torch.compiler.is_exporting() or length <= 2 * window:  # a graph has no number of blocks
        mask_LL = _visible(positions_L[:, None], positions_L[None, :], window, causal)
        return F.scaled_dot_product_attention(
            q_BHLK, k_BGLK, v_BGLK, attn_mask=mask_LL, enable_gqa=gqa, scale=scale
        )
    batch = q_BHLK.shape[0]
    blocks = -(-length // window)
    queries = _blocks(q_BHLK, window, blocks)
    keys = _with_neighbours(_blocks(k_BGLK, window, blocks), causal)
    values = _with_neighbours(_blocks(v_BGLK, window, blocks), causal)
    span = keys.shape[3]
    block_starts = torch.arange(blocks, device=q_BHLK.device)[:, None, None] * window
    query_positions = block_starts + torch.arange(window, device=q_BHLK.device)[None, :, None]
    key_positions = block_starts - window + torch.arange(span, device=q_BHLK.device)[None, None, :]
    # Padding queries (at or past the end) may see padding keys, so that no row is empty.
    mask_nWS = (
        _visible(query_positions, key_positions, window, causal)
        & (key_positions >= 0)
        & ((key_positions < length) | (query_positions >= length))
    )
    mask = mask_nWS[:, None].expand(blocks, batch, window, span).reshape(-1, 1, window, span)
    y = F.scaled_dot_product_attention(
        queries.flatten(0, 1),
        keys.flatten(0, 1),
        values.flatten(0, 1),
        attn_mask=mask,
        enable_gqa=gqa,
        scale=scale,
    )
    y_BHnWK = torch.unflatten(y, 0, (blocks, batch)).permute(1, 2, 0, 3, 4)
    return y_BHnWK.flatten(2, 3)[:, :, :length]


def _visible(query: Tensor, key: Tensor, window: int, causal: bool) -> Tensor:
    """Say which keys' positions the queries' positions see."""
    distance = query - key
    return (distance < window) & (distance >= 0 if causal else distance > -window)


def _blocks(x_BHLK: Tensor, window: int, blocks: int) -> Tensor:
    """Cut (B, H, L, K) into (n, B, H, W, K), padded at the end."""
    padded = F.pad(x_BHLK, (0, 0, 0, blocks * window - x_BHLK.shape[2]))
    return torch.unflatten(padded, 2, (blocks, window)).permute(2, 0, 1, 3, 4)


def _with_neighbours(x_nBHWK: Tensor, causal: bool) -> Tensor:
    """Put the block before (and after, if not causal) beside each block: (n, B, H, 2W or 3W, K)."""
    around = F.pad(x_nBHWK, (0, 0, 0, 0, 0, 0, 0, 0, 1, 0 if causal else 1))
    blocks = x_nBHWK.shape[0]
    shifted = [around[j : j + blocks] for j in range(2 if causal else 3)]
    return torch.cat(shifted, dim=3)
