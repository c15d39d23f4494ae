"""The states between chunks of a linear recurrence with decay: matrix products instead of a loop.

Dimensions: n chunks, K state rows that decay each at its own rate, V columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64
"""Chunks that one matrix product covers; the cost of a level is n x GROUP."""

SMALLEST_LOG = -50.0
"""What keeps less than e^-50 of the state keeps nothing: the rest is far below float32's resolution."""


def states_before(updates_nKV: Tensor, log_decay_nK: Tensor) -> Tensor:
    """Return the state before each chunk: S_0 = 0, S_m = exp(a_(m-1)) S_(m-1) + U_(m-1).

    Chunks are taken in groups of 16: within a group every state is a weighted sum of the group's
    updates, one matrix product; what a group hands to the next follows from the same recurrence over
    groups. So the cost is linear in n, the depth logarithmic, and nothing loops over chunks.

    Args:
        updates_nKV: what each chunk adds, (..., n, K, V).
        log_decay_nK: log of what each chunk keeps of the state, at most 0, (..., n, K).

    Returns:
        (..., n, K, V), in the dtype of the updates.
    """
    chunks = updates_nKV.shape[-3]
    updates_GcKV, log_decay_GcK = _in_groups(updates_nKV, log_decay_nK)
    after_GcK = log_decay_GcK.cumsum(-2)
    before_GcK = after_GcK - log_decay_GcK
    if updates_GcKV.shape[-4] == 1:
        states_GcKV = _weighted(before_GcK, after_GcK, updates_GcKV)
    else:
        # One row more than the group has chunks: the state that the group itself leaves behind.
        rows_GdK = torch.cat((before_GcK, after_GcK[..., -1:, :]), dim=-2)
        local_GdKV = _weighted(rows_GdK, after_GcK, updates_GcKV)
        states_GcKV, left_G1KV = torch.split(local_GdKV, [GROUP, 1], dim=-3)
        carried_GKV = states_before(left_G1KV.squeeze(-3), after_GcK[..., -1, :])
        decay_GcK1 = before_GcK.exp().unsqueeze(-1).to(carried_GKV.dtype)
        states_GcKV = torch.addcmul(states_GcKV, carried_GKV.unsqueeze(-3), decay_GcK1)
    return states_GcKV.flatten(-4, -3)[..., :chunks, :, :]


def states_after(updates_nKV: Tensor, log_decay_nK: Tensor) -> Tensor:
    """Return what later chunks hand back to each: G_last = 0, G_m = exp(a_(m+1)) G_(m+1) + U_(m+1).

    The transpose of ``states_before``, with the same arguments: from the gradients of its states it makes those of
    its updates.
    """
    chunks = updates_nKV.shape[-3]
    updates_GcKV, log_decay_GcK = _in_groups(updates_nKV, log_decay_nK)
    after_GcK = log_decay_GcK.cumsum(-2)
    before_GcK = after_GcK - log_decay_GcK
    if updates_GcKV.shape[-4] == 1:
        states_GcKV = _weighted(before_GcK, after_GcK, updates_GcKV, transposed=True)
    else:
        # One column more than the group has chunks: what the group itself hands back to those before it.
        columns_GdK = torch.cat((torch.zeros_like(after_GcK[..., :1, :]), after_GcK), dim=-2)
        local_GdKV = _weighted(before_GcK, columns_GdK, updates_GcKV, 0, transposed=True)
        back_G1KV, states_GcKV = torch.split(local_GdKV, [1, GROUP], dim=-3)
        carried_GKV = states_after(back_G1KV.squeeze(-3), after_GcK[..., -1, :])
        decay_GcK1 = (after_GcK[..., -1:, :] - after_GcK).exp().unsqueeze(-1)
        states_GcKV = torch.addcmul(
            states_GcKV, carried_GKV.unsqueeze(-3), decay_GcK1.to(carried_GKV.dtype)
        )
    return states_GcKV.flatten(-4, -3)[..., :chunks, :, :]


def _in_groups(updates_nKV: Tensor, log_decay_nK: Tensor) -> tuple[Tensor, Tensor]:
    """Cut updates and decays into groups of chunks (..., G, c, K, V) and (..., G, c, K), zeros at the end."""
    chunks = updates_nKV.shape[-3]
    size = min(GROUP, chunks)
    padding = -chunks % size
    log_decay_nK = log_decay_nK.clamp(min=SMALLEST_LOG)
    if padding:
        updates_nKV = F.pad(updates_nKV, (0, 0, 0, 0, 0, padding))
        log_decay_nK = F.pad(log_decay_nK, (0, 0, 0, padding))
    return torch.unflatten(updates_nKV, -3, (-1, size)), torch.unflatten(
        log_decay_nK, -2, (-1, size)
    )


def _weighted(
    rows_rK: Tensor,
    columns_cK: Tensor,
    updates_cKV: Tensor,
    diagonal: int = -1,
    *,
    transposed: bool = False,
) -> Tensor:
    """Return the sums over j <= i + diagonal of exp(rows_i - columns_j) updates_j, or over i of updates_i."""
    weights_Krc = lower_decays(rows_rK.mT, columns_cK.mT, diagonal).to(updates_cKV.dtype)
    weights_Kdc = weights_Krc.mT if transposed else weights_Krc
    return (weights_Kdc @ updates_cKV.transpose(-3, -2)).transpose(-3, -2)


def lower_decays(rows_d: Tensor, columns_c: Tensor, diagonal: int = 0) -> Tensor:
    """Return exp(rows_i - columns_j) for j <= i + diagonal and 0 elsewhere: (..., d, c).

    What is hidden gets minus infinity before the exponential. Hiding it afterwards gives the same
    values, but above the diagonal the exponential can overflow, and its gradient is then NaN. All is
    done in one buffer, since for each layer this is the largest one.
    """
    exponents_dc = rows_d.unsqueeze(-1) + (-columns_c).unsqueeze(-2)
    hidden_dc = exponents_dc.new_full(exponents_dc.shape[-2:], float("-inf")).triu(diagonal + 1)
    return exponents_dc.add_(hidden_dc).exp_()


def add_product(to: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return ``to + left @ right`` over all sequences and chunks (N, n, ...), in one step."""
    added = torch.baddbmm(to.flatten(0, 1), left.flatten(0, 1), right.flatten(0, 1))
    return added.view(to.shape)


def decayed_step(
    state_BHKV: Tensor, q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BHK: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one step of S_t = diag(exp(a_t)) S_(t-1) + k_t v_t, o_t = q_t S_t; return o (B, H, V) and S.

    The state keeps its dtype, which is also that of what comes out; a decay (B, H, 1) is one for all rows.
    """
    q_BHK, k_BHK, v_BHV, log_decay_BHK = (
        part.to(state_BHKV.dtype) for part in (q_BHK, k_BHK, v_BHV, log_decay_BHK)
    )
    kept_BHKV = log_decay_BHK.exp().unsqueeze(-1) * state_BHKV
    state_BHKV = torch.addcmul(kept_BHKV, k_BHK.unsqueeze(-1), v_BHV.unsqueeze(-2))
    return (q_BHK.unsqueeze(-2) @ state_BHKV).squeeze(-2), state_BHKV


def into_chunks(x: Tensor, size: int) -> Tensor:
    """Cut (B, L, ...) into chunks (B, n, size, ...), with zeros after the end."""
    padding = -x.shape[1] % size
    if padding:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, padding))
    return torch.unflatten(x, 1, (-1, size))
