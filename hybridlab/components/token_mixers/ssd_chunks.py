"""The chunked form of Mamba-2's scan (state space duality, https://arxiv.org/abs/2405.21060)."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridlab.components.decayed_scan import (
    SMALLEST_LOG,
    into_chunks,
    lower_decays,
    states_before,
)

SMALLEST_STEP = 1e-30


def ssd(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    log_decay_BLH: Tensor,
    write_BLGS: Tensor,
    read_BLGS: Tensor,
    chunk: int,
) -> Tensor:
    """Compute y_t = sum over s <= t of (C_t . B_s) exp(a_(s+1) + ... + a_t) dt_s x_s.

    Within a chunk of c positions that is a masked matrix product, as in attention; what earlier
    chunks have left arrives through the state before the chunk. Steps and decays are multiplied into
    the small factors (c x c weights, B and C), never into the values.

    Args:
        x_BLHP: values (B, L, H, P).
        dt_BLH: steps, at least 0, (B, L, H), in float32 or better.
        log_decay_BLH: a, at most 0, (B, L, H), in float32 or better.
        write_BLGS: B (B, L, G, S), G dividing H.
        read_BLGS: C (B, L, G, S).
        chunk: positions per chunk.

    Returns:
        (B, L, H, P).
    """
    chunk = min(chunk, x_BLHP.shape[1])
    x_BnHcP = into_chunks(x_BLHP, chunk).transpose(2, 3).contiguous()
    write_BnGcS = into_chunks(write_BLGS, chunk).transpose(2, 3)
    read_BnGcS = into_chunks(read_BLGS, chunk).transpose(2, 3)
    log_decay_BLH = log_decay_BLH.clamp(min=SMALLEST_LOG)
    total_BnHc = into_chunks(log_decay_BLH, chunk).cumsum(2).transpose(2, 3)
    log_step_BLH = dt_BLH.clamp(min=SMALLEST_STEP).log()
    log_step_BnHc = into_chunks(log_step_BLH, chunk).transpose(2, 3)
    last_BnH1 = total_BnHc[..., -1:]

    decays_BnHcc = lower_decays(total_BnHc, total_BnHc - log_step_BnHc)
    scores_BnGcc = read_BnGcS @ write_BnGcS.transpose(-1, -2)
    weights_BnHcc = _times_group(decays_BnHcc, scores_BnGcc)
    if x_BnHcP.shape[1] == 1:
        return (weights_BnHcc @ x_BnHcP).squeeze(1).transpose(1, 2)

    to_end_BnHc1 = (last_BnH1 - total_BnHc + log_step_BnHc).exp().unsqueeze(-1)
    written_BnHcS = _times_group(to_end_BnHc1, write_BnGcS)
    updates_BnHSP = written_BnHcS.transpose(-1, -2) @ x_BnHcP
    before_BnHV = states_before(updates_BnHSP.flatten(3), last_BnH1.squeeze(-1))
    before_BnHSP = before_BnHV.reshape(updates_BnHSP.shape)

    reads_BnHcS = _times_group(total_BnHc.exp().unsqueeze(-1), read_BnGcS)
    y = torch.baddbmm(
        (reads_BnHcS @ before_BnHSP).flatten(0, 2),
        weights_BnHcc.flatten(0, 2),
        x_BnHcP.flatten(0, 2),
    )
    y_BncHP = y.view(x_BnHcP.shape).transpose(2, 3)
    return y_BncHP.flatten(1, 2)[:, : x_BLHP.shape[1]]


def _times_group(per_head: Tensor, per_group: Tensor) -> Tensor:
    """Multiply (B, n, H, ...) by what the head's group shares, (B, n, G, ...), in the latter's dtype."""
    groups = per_group.shape[2]
    apart = torch.unflatten(per_head.to(per_group.dtype), 2, (groups, -1))
    return (apart * per_group.unsqueeze(3)).flatten(2, 3)
