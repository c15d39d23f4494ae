"""The chunked form of mLSTM (https://arxiv.org/abs/2405.04517), with exponential gates that cannot overflow.

The state is kept divided by exp(m), where m is the largest log weight of anything written so far. Any
m gives the same output up to the small number in the denominator, so m is a constant to the gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.decayed_scan import into_chunks, states_before

EPS = 1e-6
"""What the authors add to the denominator."""


def mlstm(
    q_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    write_BLH: Tensor,
    log_forget_BLH: Tensor,
    chunk: int,
) -> Tensor:
    """Compute h_t = C_t q_t / max(|n_t q_t|, 1) with C_t = f_t C_(t-1) + i_t v_t k_t, n_t = f_t n_(t-1) + i_t k_t.

    Within a chunk that is a matrix product with weights exp(b_t - b_s + log i_s), where b is the
    running sum of log f; what earlier chunks have left arrives through the state before the chunk.
    The normaliser n is one more column of the values, of ones. All is done in float32 or better: the
    norm that follows removes the scale of h, and in 16 bits little would be left of the gates' gradients.

    Args:
        q_BLHK: queries over sqrt(K), (B, L, H, K).
        k_BLHK: keys (B, L, H, K).
        v_BLHV: values (B, L, H, V).
        write_BLH: log i, of any sign, (B, L, H), in float32 or better.
        log_forget_BLH: log f, at most 0, (B, L, H), in float32 or better.
        chunk: positions per chunk.

    Returns:
        (B, L, H, V), in the dtype of the gates.
    """
    length, wide = q_BLHK.shape[1], write_BLH.dtype
    chunk = min(chunk, length)
    v1_BLHV = F.pad(v_BLHV.to(wide), (0, 1), value=1.0)
    q, k, v1 = (
        into_chunks(part.to(wide), chunk).transpose(2, 3) for part in (q_BLHK, k_BLHK, v1_BLHV)
    )
    write_BnHc = into_chunks(write_BLH, chunk).transpose(2, 3)
    total_BnHc = into_chunks(log_forget_BLH, chunk).cumsum(2).transpose(2, 3)
    last_BnH1 = total_BnHc[..., -1:]
    to_end_BnHc = last_BnH1 - total_BnHc + write_BnHc
    before_BnH, after_BnH = largest(last_BnH1.squeeze(-1), to_end_BnHc)

    logs_BnHcc = total_BnHc.unsqueeze(-1) + (-total_BnHc).unsqueeze(-2)
    logs_BnHcc.add_(write_BnHc.unsqueeze(-2))
    logs_BnHcc.add_(logs_BnHcc.new_full((chunk, chunk), float("-inf")).triu(1))
    from_before_BnHc = total_BnHc + before_BnH.unsqueeze(-1)
    m_BnHc = torch.maximum(logs_BnHcc.detach().amax(-1), from_before_BnHc.detach())
    weights_BnHcc = logs_BnHcc.sub_(m_BnHc.unsqueeze(-1)).exp_()
    sums = (q @ k.transpose(-1, -2) * weights_BnHcc) @ v1

    if sums.shape[1] > 1:
        written = k * (to_end_BnHc - after_BnH.unsqueeze(-1)).exp().unsqueeze(-1)
        updates = written.transpose(-1, -2) @ v1
        kept_BnH = last_BnH1.squeeze(-1) + before_BnH - after_BnH
        states = states_before(updates.flatten(3), kept_BnH).reshape(updates.shape)
        sums = sums + q * (from_before_BnHc - m_BnHc).exp().unsqueeze(-1) @ states
    h = normalised(sums, m_BnHc)
    return h.transpose(2, 3).flatten(1, 2)[:, :length]


def normalised(sums: Tensor, m: Tensor) -> Tensor:
    """Divide the sums (..., V) by max(|n q|, 1), where n q is their last column and all of them lack exp(m)."""
    above, below = sums[..., :-1], sums[..., -1:]
    return above / (torch.maximum(below.abs(), (-m).exp().unsqueeze(-1)) + EPS)


@torch.no_grad()
def largest(total_BnH: Tensor, to_end_BnHc: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest log weight in the state before and after each chunk, (B, n, H) each.

    m_after = max(m_before + total, max of to_end), from 0 on; by doubling, so in log n steps.
    """
    best_BnH = to_end_BnHc.amax(-1)
    best_BnH = torch.cat((torch.maximum(best_BnH[:, :1], total_BnH[:, :1]), best_BnH[:, 1:]), dim=1)
    reach = 1
    while reach < total_BnH.shape[1]:
        moved_BnH = F.pad(best_BnH, (0, 0, reach, -reach), value=float("-inf"))
        best_BnH = torch.maximum(best_BnH, total_BnH + moved_BnH)
        total_BnH = total_BnH + F.pad(total_BnH, (0, 0, reach, -reach))
        reach *= 2
    return F.pad(best_BnH, (0, 0, 1, -1)), best_BnH
