"""The chunked form of the delta rule, with no decay, one a head, or one for each feature of the key.

https://arxiv.org/abs/2406.06484, https://arxiv.org/abs/2412.06464, https://arxiv.org/abs/2510.26692

Each position first takes from the state what its key reads there, and writes in its place what the gate beta lets
through. Within a chunk those corrections depend on each other: u_i = beta_i (v_i - k_i S_(i-1)) is one triangular
system, (I + A) u = beta (v - exp(c) k S) with A_ij = beta_i (k_i . k_j) exp(c_i - c_j) for j < i. Its inverse makes
all chunks' parts at once: u = U - W S with S the state before the chunk. What is left is a short loop over chunks
with two small products in each, since a state's update now depends on the state itself. The gradient is written by
hand: one loop back over the chunks, and all the rest in products over all chunks.

Dimensions: N sequences x heads, n chunks, c positions of a chunk, K features of a key, V of a value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridlab.components.decayed_scan import add_product
from hybridlab.components.token_mixers.decayed_scores import (
    decayed_scores,
    decayed_scores_backward,
    head_decays,
)
from hybridlab.components.token_mixers.gla_chunks import add_to_last


def delta_chunks(
    q_NncK: Tensor,
    k_NncK: Tensor,
    v_NncV: Tensor,
    total_NncK: Tensor,
    beta_Nnc: Tensor,
    state_NKV: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute o_t = q_t S_t with S_t = S' + beta_t k_t (v_t - k_t S') and S' = diag(exp(a_t)) S_(t-1), in chunks.

    Args:
        q_NncK: queries (N, n, c, K).
        k_NncK: keys (N, n, c, K), of length at most one where beta reaches two.
        v_NncV: values (N, n, c, V).
        total_NncK: running sum of a within each chunk, (N or 1, n or 1, c, K or 1).
        beta_Nnc: how much of what the key reads is replaced, (N, n, c).
        state_NKV: the state before the first chunk (N, K, V); None: nothing was written.

    Returns:
        (N, n, c, V), and the state after the last chunk (N, K, V).
    """
    given = (q_NncK, k_NncK, v_NncV, total_NncK, beta_Nnc, state_NKV)
    if torch.compiler.is_compiling():  # a compiler differentiates the parts itself
        return _delta_forward(*given)[:2]
    o_NncV, left_NKV = _Delta.apply(*given)  # type: ignore[no-untyped-call]
    return o_NncV, left_NKV


class _Delta(torch.autograd.Function):
    """X = (W, U) solves (I + A) X = R with R = beta (exp(c) k, v), so that dR = (I + A)^(-T) dX and dA = - dR X^T."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        total: Tensor,
        beta: Tensor,
        state: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        o, left, *kept = _delta_forward(q, k, v, total, beta, state)
        ctx.save_for_backward(q, k, v, total, beta, left, *kept)
        ctx.set_materialize_grads(False)
        return o, left

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, grad_left: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if grad is None:
            grad = torch.zeros_like(ctx.saved_tensors[2])
        with torch.autocast(grad.device.type, enabled=False):
            return _delta_backward(ctx, grad, grad_left)


def _delta_forward(
    q: Tensor, k: Tensor, v: Tensor, total: Tensor, beta: Tensor, state: Tensor | None
) -> tuple[
    Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None
]:
    """Return the output, the state left, and what backward needs."""
    decays, beta_Nnc1 = head_decays(total), beta.unsqueeze(-1)
    weights, overlaps = _scores(q, k, total, decays)
    inverse = unit_lower_inverse((overlaps * beta_Nnc1).tril_(-1))
    from_start = total.exp()
    reads, values = inverse @ (k * from_start * beta_Nnc1), inverse @ (v * beta_Nnc1)
    last = total[..., -1:, :]
    written, kept = k * (last - total).exp(), last.exp().mT
    if v.shape[1] > 1 or state is not None:
        corrected, before, left = _forward_over_chunks(reads, values, written, kept, state)
        o = weights @ corrected
        o = o + (q * from_start) @ before
    else:
        corrected, before = values, None
        left = (written.mT @ values)[:, 0]
        o = weights @ corrected
    return o, left, decays, weights, overlaps, inverse, reads, values, corrected, before


def _scores(q: Tensor, k: Tensor, total: Tensor, decays: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what queries and keys weigh earlier keys with, (N, n, c, c) each.

    Where a head has one decay they are two products: side by side they would lie in one tensor of twice the size, which
    for long sequences is more than the allocator keeps, and be read in strides.
    """
    if decays is not None:
        return (q @ k.mT).mul_(decays), (k @ k.mT).mul_(decays)
    weights, overlaps = decayed_scores(torch.stack((q, k), dim=-2), k, total, None).unbind(-2)
    return weights, overlaps


def _scores_backward(
    grad_weights: Tensor,
    grad_overlaps: Tensor,
    q: Tensor,
    k: Tensor,
    total: Tensor,
    decays: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the queries, of the keys that read, and of the keys that are read."""
    if decays is not None:
        grad_weights, grad_overlaps = grad_weights * decays, grad_overlaps * decays
        grad_columns = add_product(grad_weights.mT @ q, grad_overlaps.mT, k)
        return grad_weights @ k, grad_overlaps @ k, grad_columns
    grad = torch.stack((grad_weights, grad_overlaps), dim=-2)
    grad_rows, grad_columns = decayed_scores_backward(
        grad, torch.stack((q, k), dim=-2), k, total, None
    )
    grad_q, grad_k = grad_rows.unbind(-2)
    return grad_q, grad_k, grad_columns


def _delta_backward(ctx: Any, grad: Tensor, grad_left: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, total, beta, left, decays, *kept = ctx.saved_tensors
    weights, overlaps, inverse, reads, values, corrected, before = kept
    last = total[..., -1:, :]
    from_start, to_end = total.exp(), (last - total).exp()
    beta_Nnc1 = beta.unsqueeze(-1)

    grad_corrected = weights.mT @ grad
    grad_weights = grad @ corrected.mT
    after, grad_state = None, None
    if before is not None:
        grad_before = (q * from_start).mT @ grad
        grad_corrected, after, grad_state = _backward_over_chunks(
            grad_corrected, grad_before, reads, k * to_end, last.exp().mT, grad_left
        )
        grad_reads = (grad_corrected @ before.mT).neg_()
    else:
        grad_reads = torch.zeros_like(k)
        if grad_left is not None:
            after = grad_left.unsqueeze(1)
            grad_corrected = grad_corrected + (k * to_end) @ after

    of_k, of_v = inverse.mT @ grad_reads, inverse.mT @ grad_corrected
    grad_system = add_product(of_k @ reads.mT, of_v, values.mT).neg_().tril_(-1)
    k_start = k * from_start
    grad_beta = (of_k * k_start).sum(-1) + (of_v * v).sum(-1) + (grad_system * overlaps).sum(-1)
    grad_v = of_v * beta_Nnc1

    grad_q, grad_k, grad_columns = _scores_backward(
        grad_weights, grad_system.mul_(beta_Nnc1), q, k, total, decays
    )
    grad_k = torch.addcmul(grad_k, of_k * beta_Nnc1, from_start)
    if before is not None:
        grad_q = torch.addcmul(grad_q, grad @ before.mT, from_start)
    if after is not None:
        grad_columns += (corrected @ after.mT).mul_(to_end)
    grad_total = None
    if ctx.needs_input_grad[3]:
        grad_total = torch.addcmul(q * grad_q, k, grad_k - grad_columns)
        add_to_last(grad_total, before, after)
        if grad_left is not None:
            grad_total[:, -1, -1] += (left * grad_left).sum(-1)
        grad_total = grad_total.sum_to_size(total.shape)
    grad_state = grad_state if ctx.needs_input_grad[5] else None
    return grad_q, grad_k + grad_columns, grad_v, grad_total, grad_beta, grad_state


def unit_lower_inverse(strict_cc: Tensor) -> Tensor:
    """Return (I + A)^(-1) for strictly lower triangular A (..., c, c), by substitution.

    The series (I - A)(I + A^2)(I + A^4) ... takes matrix products alone, but its terms can be as large as binomial
    coefficients while the inverse is small (for equal keys that are written in full they reach 10^18 at c = 64), and
    float32 is lost.
    """
    identity_cc = torch.eye(strict_cc.shape[-1], dtype=strict_cc.dtype, device=strict_cc.device)
    inverse_cc: Tensor = torch.linalg.solve_triangular(
        strict_cc, identity_cc.expand_as(strict_cc), upper=False, unitriangular=True
    )
    return inverse_cc


def _forward_over_chunks(
    reads_NncK: Tensor,
    values_NncV: Tensor,
    written_NncK: Tensor,
    kept_NnK1: Tensor,
    state_NKV: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the corrected values u = U - W S (N, n, c, V), the states S before each chunk (N, n, K, V), the last S."""
    chunks, keys = written_NncK.shape[1], written_NncK.shape[-1]
    if state_NKV is None:
        state_NKV = values_NncV.new_zeros(values_NncV.shape[0], keys, values_NncV.shape[-1])
    corrected, before = [], []
    for reads_NcK, values_NcV, written_NcK, kept_NK1 in zip(
        reads_NncK.unbind(1),
        values_NncV.unbind(1),
        written_NncK.unbind(1),
        kept_NnK1.expand(-1, chunks, -1, -1).unbind(1),
        strict=True,
    ):
        corrected_NcV = torch.baddbmm(values_NcV, reads_NcK, state_NKV, alpha=-1)
        before.append(state_NKV)
        corrected.append(corrected_NcV)
        state_NKV = torch.baddbmm(state_NKV * kept_NK1, written_NcK.mT, corrected_NcV)
    return torch.stack(corrected, 1), torch.stack(before, 1), state_NKV


def _backward_over_chunks(
    grad_corrected_NncV: Tensor,
    grad_before_NnKV: Tensor,
    reads_NncK: Tensor,
    written_NncK: Tensor,
    kept_NnK1: Tensor,
    after_NKV: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the corrected values (N, n, c, V), the states after chunks (N, n, K, V), the first state.

    What comes in are the parts of those gradients that do not pass through later states.
    """
    chunks = written_NncK.shape[1]
    if after_NKV is None:
        after_NKV = torch.zeros_like(grad_before_NnKV[:, 0])
    grads, afters = [], []
    for grad_NcV, grad_before_NKV, reads_NcK, written_NcK, kept_NK1 in zip(
        *(
            reversed(part.unbind(1))
            for part in (
                grad_corrected_NncV,
                grad_before_NnKV,
                reads_NncK,
                written_NncK,
                kept_NnK1.expand(-1, chunks, -1, -1),
            )
        ),
        strict=True,
    ):
        grad_NcV = torch.baddbmm(grad_NcV, written_NcK, after_NKV)
        grads.append(grad_NcV)
        afters.append(after_NKV)
        after_NKV = torch.baddbmm(
            torch.addcmul(grad_before_NKV, after_NKV, kept_NK1), reads_NcK.mT, grad_NcV, alpha=-1
        )
    return torch.stack(grads[::-1], 1), torch.stack(afters[::-1], 1), after_NKV
