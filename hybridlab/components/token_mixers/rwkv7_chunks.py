"""The chunked form of RWKV-7's recurrence (https://arxiv.org/abs/2503.14456): a delta rule with decays by row.

With S of K rows and V columns, ``S_t = diag(w_t) S_(t-1) + b_t (a_t S_(t-1)) + k_t v_t`` and
``o_t = r_t S_t``. Let c be the running sum of log w within a chunk and p_t = a_t S_(t-1), what
position t takes away and puts back. Then p solves a triangular system, (I - A) p = A_k v + a e^c S_0,
whose entries are a_t b_s exp(c_(t-1) - c_s), and all else is matrix products.

RWKV-7 keeps at least e^-0.61 of each row at each step. So with the middle of a chunk as reference no
factor of such an exponential exceeds e^20 even in chunks of 64, and none can overflow. In 16 bits on a GPU fla's kernel
runs where it is installed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hybridlab.components.base import float_dtype
from hybridlab.components.decayed_scan import into_chunks
from hybridlab.components.token_mixers import fla_kernels
from hybridlab.components.token_mixers.matrix_memory import kernel_of

LARGEST_CHUNK = 64
LARGEST_RATE = 0.6065306597126334
"""e^-0.5: no row fades faster than to e^-0.61 of itself at one position."""


def rwkv7(
    r_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    a_BLHK: Tensor,
    b_BLHK: Tensor,
    log_decay_BLHK: Tensor,
    chunk: int,
    narrow: torch.dtype | None = None,
) -> Tensor:
    """Compute o_t = r_t S_t for S_t = diag(exp(log_decay_t)) S_(t-1) + b_t (a_t S_(t-1)) + k_t v_t.

    All is done in float32 or better: what a triangular system returns would not survive 16 bits.

    Args:
        r_BLHK: receptances (B, L, H, K).
        k_BLHK: keys (B, L, H, K).
        v_BLHV: values (B, L, H, V).
        a_BLHK: what is read to be replaced, (B, L, H, K).
        b_BLHK: where that is added, (B, L, H, K).
        log_decay_BLHK: between -0.61 and 0, (B, L, H, K).
        chunk: positions per chunk, at most 64.
        narrow: the dtype that the layer itself computes in; one of 16 bits lets fla's kernel run on a GPU.

    Returns:
        (B, L, H, V), in float32 or better.
    """
    length = r_BLHK.shape[1]
    chunk = min(chunk, LARGEST_CHUNK, length)
    wide = float_dtype(v_BLHV)
    whole = (r_BLHK, k_BLHK, v_BLHV, a_BLHK, b_BLHK, log_decay_BLHK)
    if narrow in fla_kernels.RWKV7_DTYPES and _fits(r_BLHK, v_BLHV):
        return fla_kernels.rwkv7(whole, narrow, -LARGEST_RATE).to(wide)
    with torch.autocast(v_BLHV.device.type, enabled=False):
        r, k, v, a, b, log_decay = (
            into_chunks(part.to(wide), chunk).transpose(2, 3) for part in whole
        )
        o = _chunks(r, k, v, a, b, log_decay)
    return o.transpose(2, 3).flatten(1, 2)[:, :length]


def _fits(r_BLHK: Tensor, v_BLHV: Tensor) -> bool:
    """Say whether fla's kernel is there and takes heads of this size."""
    widest = max(r_BLHK.shape[-1], v_BLHV.shape[-1])
    return widest <= fla_kernels.LARGEST_RWKV7_HEAD and kernel_of(v_BLHV) == "fla"


def _chunks(r: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor) -> Tensor:
    """Compute o (B, n, H, c, V) from what each chunk of c positions has."""
    size, values = v.shape[-2:]
    total = log_decay.cumsum(-2)
    before = total - log_decay
    middle = total[..., (size - 1) // 2, None, :]
    left = torch.cat((a * (before - middle).exp(), r * (total - middle).exp()), dim=-2)
    falling = (middle - total).exp()
    right = torch.cat((k * falling, b * falling), dim=-2)
    hidden = torch.ones(size, size, dtype=torch.bool, device=v.device).triu()
    hidden = torch.cat((hidden, hidden.triu(1))).repeat(1, 2)
    scores = (left @ right.transpose(-1, -2)).masked_fill(hidden, 0)
    ak, ab, rk, rb = (part for rows in scores.chunk(2, -2) for part in rows.chunk(2, -1))
    known = torch.cat((ak @ v, a * before.exp()), dim=-1)
    solved = torch.linalg.solve_triangular(-ab, known, upper=False, unitriangular=True)
    p, reads = solved[..., :values], solved[..., values:]
    o: Tensor = rk @ v
    if o.shape[1] == 1:
        return o.add_(rb @ p)
    last = total[..., -1:, :]
    to_end = (last - total).exp()
    k_end, b_end = ((part * to_end).transpose(-1, -2) for part in (k, b))
    moved = b_end @ reads + torch.diag_embed(last.squeeze(-2).exp())
    states = _states_before(moved, k_end @ v + b_end @ p)
    p = p + reads @ states
    return o.add_(rb @ p).add_((r * total.exp()) @ states)


def _states_before(moved: Tensor, added: Tensor) -> Tensor:
    """Return the state before each chunk; a compiler differentiates the loop itself."""
    if torch.compiler.is_compiling():
        return _chained(moved, added)
    states: Tensor = _Chain.apply(moved, added)  # type: ignore[no-untyped-call]
    return states


def _chained(moved: Tensor, added: Tensor) -> Tensor:
    rows = [torch.zeros_like(added[:, 0])]
    for move, add in zip(moved.unbind(1)[:-1], added.unbind(1)[:-1], strict=True):
        rows.append(add + move @ rows[-1])
    return torch.stack(rows, 1)


class _Chain(torch.autograd.Function):
    """The state before each chunk: S_0 = 0, S_m = M_(m-1) S_(m-1) + U_(m-1); M (B, n, H, K, K), U (B, n, H, K, V)."""

    @staticmethod
    def forward(ctx: Any, moved: Tensor, added: Tensor) -> Tensor:
        states = _chained(moved, added)
        ctx.save_for_backward(moved, states)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        moved, states = ctx.saved_tensors
        row = torch.zeros_like(grad[:, 0])
        rows = []
        for direct, move in zip(reversed(grad.unbind(1)), reversed(moved.unbind(1)), strict=True):
            rows.append(row)
            row = torch.matmul(move.transpose(-1, -2), row).add_(direct)
        grad_added = torch.stack(rows[::-1], 1)
        return grad_added @ states.transpose(-1, -2), grad_added
