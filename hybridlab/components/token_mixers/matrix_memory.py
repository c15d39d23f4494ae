"""The one door to every memory that is a matrix a head: linear attention, with decays, with the delta rule, with both.

``S' = diag(exp(a_t)) S_(t-1)``, then ``S_t = S' + k_t v_t``, or with a beta ``S_t = S' + beta_t k_t (v_t - k_t S')``;
what is read is ``o_t = q_t S_t``. Three forms of the same: ``recall`` over a whole sequence in chunks,
``recall_step`` for one position, ``recall_loop`` as the equations stand. On a GPU ``recall`` runs fla's kernels where
they are installed (``kernel_of``), elsewhere plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridlab.components.base import float_dtype
from hybridlab.components.decayed_scan import SMALLEST_LOG, into_chunks
from hybridlab.components.root_mean_square import rms_norm
from hybridlab.components.token_mixers import decayed_scores, fla_kernels
from hybridlab.components.token_mixers.delta_chunks import delta_chunks
from hybridlab.components.token_mixers.gla_chunks import gla_chunks

SEGMENT = 1024
"""Positions that the delta rule takes at once. Its chunks wait for each other anyway, and what a segment makes on the
way is small enough to be used again by the next one: taken whole, long sequences cost more a position."""


def recall(
    q_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    log_decay: Tensor | None = None,
    beta_BLH: Tensor | None = None,
    *,
    chunk: int,
) -> Tensor:
    """Write every position into the memory and read it, (B, L, H, V) in float32 or better.

    Args:
        q_BLHK: queries (B, L, H, K), scaled as they are to be.
        k_BLHK: keys (B, L, H, K); with a beta of up to one their length is to be at most one or so.
        v_BLHV: values (B, L, H, V).
        log_decay: a, at most 0: none; a constant of each head (H); (B, L, H); or (B, L, H, K), for each feature
            of the key. Best in float32 or better.
        beta_BLH: with the delta rule, the share of what the key reads that is replaced, (B, L, H).
        chunk: positions per matrix product, rounded up to a power of two; changes speed, not the result.
    """
    wide = float_dtype(v_BLHV)
    if kernel_of(v_BLHV) == "fla":
        return fla_kernels.recall(q_BLHK, k_BLHK, v_BLHV, log_decay, beta_BLH).to(wide)
    length, heads = q_BLHK.shape[1:3]
    chunk = max(decayed_scores.BLOCK, _power_of_two(min(chunk, length)))
    with torch.autocast(v_BLHV.device.type, enabled=False):
        if beta_BLH is not None:
            return _replaced(q_BLHK, k_BLHK, v_BLHV, log_decay, beta_BLH, chunk, wide)[:, :length]
        q_NncK, k_NncK, v_NncV = (_cut(part.to(wide), chunk) for part in (q_BLHK, k_BLHK, v_BLHV))
        total = None if log_decay is None else _totals(log_decay, q_BLHK, chunk, wide)
        return _joined(gla_chunks(q_NncK, k_NncK, v_NncV, total), heads)[:, :length]


def _replaced(
    q_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    log_decay: Tensor | None,
    beta_BLH: Tensor,
    chunk: int,
    wide: torch.dtype,
) -> Tensor:
    """Return ``recall`` with the delta rule, segment after segment, with the zeros that fill the last chunk."""
    segment = max(SEGMENT, chunk)
    decays: Iterable[Tensor | None] = repeat(log_decay)  # of no length: one for all segments
    if log_decay is not None and log_decay.dim() > 1:
        decays = _split(log_decay, segment)
    segments = zip(
        *(_split(part, segment) for part in (q_BLHK, k_BLHK, v_BLHV, beta_BLH.unsqueeze(-1))),
        decays,
        strict=False,
    )
    state_NKV, outputs = None, []
    for q, k, v, beta, decay in segments:
        q_NncK, k_NncK, v_NncV, beta_Nnc1 = (_cut(part.to(wide), chunk) for part in (q, k, v, beta))
        total_NncK = _totals(decay, q, chunk, wide)
        o_NncV, state_NKV = delta_chunks(
            q_NncK, k_NncK, v_NncV, total_NncK, beta_Nnc1.squeeze(-1), state_NKV
        )
        outputs.append(_joined(o_NncV, q.shape[2]))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _split(x_BLHK: Tensor, segment: int) -> tuple[Tensor, ...]:
    """Cut (B, L, H, K) into segments of the length; what fits into one is left as it is."""
    return (x_BLHK,) if x_BLHK.shape[1] <= segment else torch.split(x_BLHK, segment, 1)


def _joined(o_NncV: Tensor, heads: int) -> Tensor:
    """Return chunks (B x H, n, c, V) as (B, L, H, V)."""
    return torch.unflatten(o_NncV.flatten(1, 2), 0, (-1, heads)).transpose(1, 2)


def kernel_of(tensor: Tensor) -> str:
    """Return what ``recall`` runs for such a tensor: ``fla`` or ``plain``."""
    # Kernels need real memory: fake tensors are a subclass, those of function transforms are not.
    real = (
        type(tensor) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )
    return "fla" if real and tensor.is_cuda and not fla_kernels.missing() else "plain"


def _cut(x_BLHK: Tensor, chunk: int) -> Tensor:
    """Cut (B, L, H, K) into chunks (B x H, n, c, K)."""
    x_BnHcK = into_chunks(x_BLHK, chunk).permute(0, 3, 1, 2, 4)
    return x_BnHcK.contiguous().flatten(0, 1)


def _totals(log_decay: Tensor | None, q_BLHK: Tensor, chunk: int, wide: torch.dtype) -> Tensor:
    """Return the running sums of the decays within chunks, (B x H or 1, n or 1, c, K or 1)."""
    if log_decay is None:
        return q_BLHK.new_zeros(1, 1, chunk, 1, dtype=wide)
    if log_decay.dim() == 1:
        steps_c = torch.arange(1, chunk + 1, device=q_BLHK.device, dtype=wide)
        total_Hc = log_decay.to(wide).clamp(min=SMALLEST_LOG).unsqueeze(-1) * steps_c
        total_BHc = total_Hc.expand(q_BLHK.shape[0], -1, -1)
        return total_BHc.flatten(0, 1)[:, None, :, None]
    if log_decay.dim() == 3:
        log_decay, smallest = log_decay.unsqueeze(-1), SMALLEST_LOG
    else:
        smallest = decayed_scores.SMALLEST_LOG
    steps_NncK = _cut(log_decay.to(wide).clamp(min=smallest), chunk)
    if torch.compiler.is_compiling():  # a compiler differentiates the sum itself
        return steps_NncK.cumsum(-2)
    total_NncK: Tensor = _RunningSum.apply(steps_NncK)  # type: ignore[no-untyped-call]
    return total_NncK


class _RunningSum(torch.autograd.Function):
    """A running sum over a chunk; its gradient as one product with a triangle of ones, without flips."""

    @staticmethod
    def forward(ctx: Any, steps_NncK: Tensor) -> Tensor:
        return steps_NncK.cumsum(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NncK: Tensor) -> Tensor:
        chunk = grad_NncK.shape[-2]
        with torch.autocast(grad_NncK.device.type, enabled=False):
            return grad_NncK.new_ones(chunk, chunk).triu_() @ grad_NncK


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def recall_step(
    state_BHKV: Tensor,
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    log_decay: Tensor | None = None,
    beta_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one position; return what is read (B, H, V) and the state after it, both in the state's dtype.

    A decay is a constant of each head (H), or (B, H), or (B, H, K).
    """
    q_BHK, k_BHK, v_BHV = (part.to(state_BHKV.dtype) for part in (q_BHK, k_BHK, v_BHV))
    if log_decay is not None:
        state_BHKV = _rows(log_decay.to(state_BHKV.dtype)).exp() * state_BHKV
    if beta_BH is not None:
        known_BHV = (k_BHK.unsqueeze(-2) @ state_BHKV).squeeze(-2)
        v_BHV = beta_BH.to(state_BHKV.dtype).unsqueeze(-1) * (v_BHV - known_BHV)
    state_BHKV = torch.addcmul(state_BHKV, k_BHK.unsqueeze(-1), v_BHV.unsqueeze(-2))
    return (q_BHK.unsqueeze(-2) @ state_BHKV).squeeze(-2), state_BHKV


def _rows(log_decay: Tensor) -> Tensor:
    """Return a step's decays as (..., K or 1, 1)."""
    return log_decay.unsqueeze(-1) if log_decay.dim() == 3 else log_decay[..., None, None]


def recall_loop(
    q_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    log_decay: Tensor | None = None,
    beta_BLH: Tensor | None = None,
) -> Tensor:
    """Compute what ``recall`` computes position by position, as the equations stand: the naive form."""
    batch, length, heads, keys = q_BLHK.shape
    if log_decay is None:
        log_decay = q_BLHK.new_zeros(1)
    if log_decay.dim() == 1:
        log_decay = log_decay.expand(batch, length, heads)
    if log_decay.dim() == 3:
        log_decay = log_decay.unsqueeze(-1)
    state_BHKV = q_BLHK.new_zeros(batch, heads, keys, v_BLHV.shape[-1])
    rows_BHV = []
    gates = [None] * length if beta_BLH is None else beta_BLH.unbind(1)
    for q_BHK, k_BHK, v_BHV, decay_BHK, beta_BH in zip(
        q_BLHK.unbind(1),
        k_BLHK.unbind(1),
        v_BLHV.unbind(1),
        log_decay.exp().unbind(1),
        gates,
        strict=True,
    ):
        state_BHKV = decay_BHK.unsqueeze(-1) * state_BHKV
        new_BHV = v_BHV
        if beta_BH is not None:
            known_BHV = (k_BHK.unsqueeze(-1) * state_BHKV).sum(-2)
            new_BHV = beta_BH.unsqueeze(-1) * (v_BHV - known_BHV)
        state_BHKV = state_BHKV + k_BHK.unsqueeze(-1) * new_BHV.unsqueeze(-2)
        rows_BHV.append((q_BHK.unsqueeze(-1) * state_BHKV).sum(-2))
    return torch.stack(rows_BHV, 1)


def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Return ``x / sqrt(sum of squares + eps)`` over the last dimension, in float32 or better."""
    size = x.shape[-1]
    x = x.to(float_dtype(x))
    return rms_norm(x, x.new_full((size,), size**-0.5), eps / size)
