"""The weighted average of RWKV-4 (https://arxiv.org/abs/2305.13048), in blocks and with its own gradient.

Each feature averages its values with weights exp(k_s - (t - 1 - s) w): a recurrence without a
matrix, of which numerator and denominator are kept divided by the largest weight in them. The
sequence is cut into about sqrt(L) blocks that step together; then what each block leaves is handed on
to the next. So 2 sqrt(L) small steps replace L, and nothing is ever raised above exp(0). Gradients
are the same recurrence from right to left.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = -1e38
"""The log weight of nothing."""


def wkv4(k_BLD: Tensor, v_BLD: Tensor, rate_D: Tensor, bonus_D: Tensor) -> Tensor:
    """Average v with weights exp(k_s - (t - 1 - s) rate) for s < t and exp(bonus + k_t) for t: (B, L, D).

    Args:
        k_BLD: log weights of each position, in float32 or better.
        v_BLD: values, in the same dtype.
        rate_D: how fast log weights fall with time, more than 0, in the same dtype.
        bonus_D: what the present position's log weight gets, in the same dtype.
    """
    if torch.compiler.is_compiling():  # it differentiates the steps itself
        return _average(k_BLD, v_BLD, rate_D, bonus_D)[0]
    o_BLD: Tensor = _WKV4.apply(k_BLD, v_BLD, rate_D, bonus_D)  # type: ignore[no-untyped-call]
    return o_BLD


def averaged(
    sums_PBD: Tensor, m_BD: Tensor, k_BD: Tensor, v_BD: Tensor, bonus_D: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the average (..., D), the present position's share in it, and the log of all weights together.

    ``sums`` are numerator and denominator of what came before, without exp(m).
    """
    own = k_BD + bonus_D
    top = torch.maximum(m_BD, own)
    earlier, present = (m_BD - top).exp(), (own - top).exp()
    above, below = sums_PBD.unbind(0)
    below = torch.addcmul(present, earlier, below)
    average = torch.addcmul(earlier * above, present, v_BD) / below
    return average, present / below, top + below.log()


def added(
    sums_PBD: Tensor, m_BD: Tensor, k_BD: Tensor, v_PBD: Tensor, rate_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Let what is summed fade by one position and add values of weight exp(k); return sums and m."""
    faded_BD = m_BD - rate_D
    m_BD = torch.maximum(faded_BD, k_BD)
    kept_PBD = sums_PBD * (faded_BD - m_BD).exp()
    return torch.addcmul(kept_PBD, v_PBD, (k_BD - m_BD).exp()), m_BD


def _sums_before(k_BLD: Tensor, v_PBLD: Tensor, rate_D: Tensor) -> tuple[Tensor, Tensor]:
    """Return the faded sums of what comes before each position, (P, B, L, D), and their m (B, L, D)."""
    length = k_BLD.shape[1]
    size = math.isqrt(length - 1) + 1
    padding = -length % size
    k_BncD = torch.unflatten(F.pad(k_BLD, (0, 0, 0, padding), value=NEVER), 1, (-1, size))
    v_PBncD = torch.unflatten(F.pad(v_PBLD, (0, 0, 0, padding)), 2, (-1, size))
    m_BnD = torch.full_like(k_BncD[:, :, 0], NEVER)
    sums_PBnD = torch.zeros_like(v_PBncD[..., 0, :])
    steps = []
    for k_BnD, v_PBnD in zip(k_BncD.unbind(2), v_PBncD.unbind(3), strict=True):
        sums_PBnD, m_BnD = added(sums_PBnD, m_BnD, k_BnD, v_PBnD, rate_D)
        steps.append((sums_PBnD, m_BnD))
    sums_PBncD = torch.stack([sums for sums, _ in steps], 3)
    m_BncD = torch.stack([m for _, m in steps], 2)

    block_rate_D = rate_D * size
    m_BD, sums_PBD = torch.full_like(k_BLD[:, 0], NEVER), torch.zeros_like(v_PBLD[:, :, 0])
    carried = []
    for left_PBD, left_BD in zip(sums_PBnD.unbind(2), m_BnD.unbind(1), strict=True):
        carried.append((sums_PBD, m_BD))
        sums_PBD, m_BD = added(sums_PBD, m_BD, left_BD, left_PBD, block_rate_D)
    carried_PBn1D = torch.stack([sums for sums, _ in carried], 2).unsqueeze(3)
    carried_Bn1D = torch.stack([m for _, m in carried], 1).unsqueeze(2)
    age_c1 = torch.arange(1, size + 1, device=rate_D.device, dtype=rate_D.dtype).unsqueeze(-1)
    faded_BncD = carried_Bn1D - age_c1 * rate_D
    top_BncD = torch.maximum(faded_BncD, m_BncD)
    sums_PBncD = sums_PBncD * (m_BncD - top_BncD).exp()
    sums_PBncD = torch.addcmul(sums_PBncD, carried_PBn1D, (faded_BncD - top_BncD).exp())
    sums_PBLD, m_BLD = sums_PBncD.flatten(2, 3)[:, :, :length], top_BncD.flatten(1, 2)[:, :length]
    return F.pad(sums_PBLD, (0, 0, 1, -1)), F.pad(m_BLD, (0, 0, 1, -1), value=NEVER)


def _average(k: Tensor, v: Tensor, rate: Tensor, bonus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the average, and the sums before each position and their m, which backward needs."""
    sums, m = _sums_before(k, torch.stack((v, torch.ones_like(v))), rate)
    return averaged(sums, m, k, v, bonus)[0], sums, m


class _WKV4(torch.autograd.Function):
    """With p the weights of the average: dv_s = sum p_ts g_t, dk_s = sum p_ts g_t (v_s - o_t), from right to left."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, v: Tensor, rate: Tensor, bonus: Tensor) -> Tensor:
        average, sums, m = _average(k, v, rate, bonus)
        ctx.save_for_backward(k, v, rate, bonus, sums, m)
        return average

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        k, v, rate, bonus, sums, m = ctx.saved_tensors
        average, share, log_all = averaged(sums, m, k, v, bonus)
        values = torch.stack((grad, grad * average)).flip(2)
        after, m_after = _sums_before(-log_all.flip(1), values, rate)
        (seen, seen_average), m_after = after.flip(2).unbind(0), m_after.flip(1)
        own = share * grad
        later = (k + m_after).exp()
        grad_v = torch.addcmul(own, later, seen)
        grad_own = own * (v - average)
        grad_k = torch.addcmul(grad_own, later, v * seen - seen_average)
        above, below = sums.unbind(0)
        moved = (m_after + m - rate).exp() * (seen_average * below - seen * above)
        return grad_k, grad_v, moved.sum((0, 1)), grad_own.sum((0, 1))
