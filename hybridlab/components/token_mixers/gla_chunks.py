"""The chunked form of gated linear attention, safe at any decay.

Between chunks the state is carried by ``states_before``. Within a chunk position i reads position
j <= i with the weight sum over K of q_i k_j exp(c_i - c_j), where c is the running sum of the log
decays. To make that a matrix product, the exponential is split at a reference r into
exp(c_i - r) and exp(r - c_j). Where r lies between i and j, neither factor exceeds one. Hence the
halving: the second half of a block reads the first half with r at their border, and so on down to
blocks of eight. In those r is the middle, four steps away at most. Decays are kept above e^-16 a
step, which is one part in 2^23 and so what float32 cannot tell from forgetting all; then both
factors stay below e^64, far from overflow (e^88) even for large queries and keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.decayed_scan import into_chunks, states_before

BLOCK = 8
SMALLEST_LOG = -16.0


def gla(
    q_BLHK: Tensor, k_BLHK: Tensor, v_BLHV: Tensor, log_decay_BLHK: Tensor, chunk: int
) -> Tensor:
    """Compute o_t = q_t S_t with S_t = diag(exp(a_t)) S_(t-1) + k_t v_t.

    Args:
        q_BLHK: queries (B, L, H, K).
        k_BLHK: keys (B, L, H, K).
        v_BLHV: values (B, L, H, V).
        log_decay_BLHK: a, at most 0, (B, L, H, K), in float32 or better.
        chunk: positions per chunk; rounded up to 8, 16, 32 ..., and down for short sequences.

    Returns:
        (B, L, H, V).
    """
    length = q_BLHK.shape[1]
    chunk = max(BLOCK, _power_of_two(min(chunk, length)))
    q, k, v, log_decay = (
        into_chunks(part, chunk).permute(0, 3, 1, 2, 4)
        for part in (q_BLHK, k_BLHK, v_BLHV, log_decay_BLHK.clamp(min=SMALLEST_LOG))
    )
    total = log_decay.cumsum(-2)
    o = _within(q, k, v, total)
    if o.shape[2] > 1:
        last = total[..., -1:, :]
        to_end = k * (last - total).exp().to(k.dtype)
        before = states_before(to_end.transpose(-1, -2) @ v, last.squeeze(-2))
        o = o + (q * total.exp().to(q.dtype)) @ before
    return o.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length]


def _within(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    """Let positions of a chunk (..., c, K) read earlier ones of the same chunk: (..., c, V)."""
    o = _blocks(q, k, v, total)
    size = BLOCK
    while size < q.shape[-2]:
        o = o + _second_half_reads_first(q, k, v, total, size)
        size *= 2
    return o


def _blocks(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    """Positions of a block of eight read earlier ones of the block, and themselves."""
    q8, k8, v8, total8 = (torch.unflatten(part, -2, (-1, BLOCK)) for part in (q, k, v, total))
    middle = total8[..., BLOCK // 2 - 1 : BLOCK // 2, :]
    # The factors may reach e^64, which float16 does not hold: this small product stays wide.
    with torch.autocast(q.device.type, enabled=False):
        left, right = q8 * (total8 - middle).exp(), k8 * (middle - total8).exp()
        scores = left @ right.transpose(-1, -2)
    later = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=q.device).triu(1)
    return (scores.masked_fill(later, 0).to(v.dtype) @ v8).flatten(-3, -2)


def _second_half_reads_first(q: Tensor, k: Tensor, v: Tensor, total: Tensor, size: int) -> Tensor:
    """In blocks of twice ``size``, positions of the second half read those of the first."""
    (_, q2), (k1, _), (v1, _), (total1, total2) = (
        torch.unflatten(part, -2, (-1, 2, size)).unbind(-3) for part in (q, k, v, total)
    )
    border = total1[..., -1:, :]
    left = q2 * (total2 - border).exp().to(q.dtype)
    right = k1 * (border - total1).exp().to(k.dtype)
    read = left @ right.transpose(-1, -2) @ v1
    return F.pad(read.unsqueeze(-3), (0, 0, 0, 0, 1, 0)).flatten(-4, -2)


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()
