"""The chunked form of linear attention with decays: none, one a head, or one for each feature of the key.

Between chunks the state is carried by ``states_before``; within a chunk weights of pairs are a matrix product times
their decays (``feature_chunks`` where each feature has its own). The gradient is written by hand: it keeps less than
half of what the parts would keep, and the gradient of the decays falls out of those of queries and keys.

Dimensions: N sequences x heads, n chunks, c positions of a chunk, K features of a key, V of a value.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hybridlab.components.decayed_scan import (
    add_product,
    lower_decays,
    states_after,
    states_before,
)
from hybridlab.components.token_mixers.by_hand import ByHand, Parts
from hybridlab.components.token_mixers.feature_chunks import feature_chunks


def gla_chunks(q_NncK: Tensor, k_NncK: Tensor, v_NncV: Tensor, total_NncK: Tensor | None) -> Tensor:
    """Compute o_t = q_t S_t with S_t = diag(exp(a_t)) S_(t-1) + k_t v_t, given in chunks.

    Args:
        q_NncK: queries (N, n, c, K).
        k_NncK: keys (N, n, c, K).
        v_NncV: values (N, n, c, V).
        total_NncK: running sum of a within each chunk, (N or 1, n or 1, c, K or 1); None: nothing decays.

    Returns:
        (N, n, c, V).
    """
    if total_NncK is None:
        return _UNDECAYED(q_NncK, k_NncK, v_NncV)
    if total_NncK.shape[-1] > 1:
        return feature_chunks(q_NncK, k_NncK, v_NncV, total_NncK)
    return _ADDITIVE(q_NncK, k_NncK, v_NncV, total_NncK)


def _additive_forward(
    q: Tensor, k: Tensor, v: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the output, and what backward needs: decays, weights within chunks, states before them."""
    decays = lower_decays(total.squeeze(-1), total.squeeze(-1))
    weights = (q @ k.mT).mul_(decays)
    o = weights @ v
    before = None
    if v.shape[1] > 1:
        last = total[..., -1:, :]
        before = carried((k * (last - total).exp()).mT @ v, last.squeeze(-2))
        o = o + (q * total.exp()) @ before
    return o, decays, weights, before


def _additive_backward(saved: Any, needed: tuple[bool, ...], grad: Tensor) -> Parts:
    """With S before and G (the gradient of the state) after each chunk: dq, dk, dv, and dc = q dq - k dk."""
    q, k, v, total, decays, weights, before = saved
    grad_scores = (grad @ v.mT).mul_(decays)
    grad_v = weights.mT @ grad
    grad_q, grad_k = grad_scores @ k, grad_scores.mT @ q
    after = None
    if before is not None:
        last = total[..., -1:, :]
        from_start, to_end = total.exp(), (last - total).exp()
        grad_before = (q * from_start).mT @ grad
        after = handed_back(grad_before, last.squeeze(-2))
        grad_v += (k * to_end) @ after
        grad_q += (grad @ before.mT).mul_(from_start)
        grad_k += (v @ after.mT).mul_(to_end)
    grad_total = None
    if needed[3]:
        grad_total = q * grad_q - k * grad_k
        add_to_last(grad_total, before, after)
        grad_total = grad_total.sum_to_size(total.shape)
    return grad_q, grad_k, grad_v, grad_total


_ADDITIVE = ByHand(_additive_forward, _additive_backward)


def carried(updates_NnKV: Tensor, log_decay_Nn1: Tensor) -> Tensor:
    """Return the state before each chunk (N, n, K, V), for one decay a head (N or 1, n or 1, 1)."""
    log_decay_Nn1 = log_decay_Nn1.expand(*updates_NnKV.shape[:2], -1)
    return states_before(updates_NnKV.flatten(2).unsqueeze(2), log_decay_Nn1).reshape(
        updates_NnKV.shape
    )


def handed_back(updates_NnKV: Tensor, log_decay_Nn1: Tensor) -> Tensor:
    """Return the gradient of the state after each chunk (N, n, K, V), of what each hands to the one before it."""
    log_decay_Nn1 = log_decay_Nn1.expand(*updates_NnKV.shape[:2], -1)
    return states_after(updates_NnKV.flatten(2).unsqueeze(2), log_decay_Nn1).reshape(
        updates_NnKV.shape
    )


def add_to_last(grad_total_NncK: Tensor, before: Tensor | None, after: Tensor | None) -> None:
    """Add what the decay of the whole chunk has done to the state, S before the next chunk times its gradient."""
    if before is not None and after is not None:
        grad_total_NncK[:, :-1, -1] += (before[:, 1:] * after[:, :-1]).sum(-1)


def _undecayed_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the same where nothing decays, without the products by one, and what backward needs."""
    weights = (q @ k.mT).tril_()
    o = weights @ v
    if v.shape[1] == 1:
        return o, weights, None
    before = _summed(k.mT @ v)
    return add_product(o, q, before), weights, before


def _undecayed_backward(saved: Any, needed: tuple[bool, ...], grad: Tensor) -> Parts:
    q, k, v, weights, before = saved
    grad_weights = (grad @ v.mT).tril_()
    grad_q, grad_k = grad_weights @ k, grad_weights.mT @ q
    grad_v = weights.mT @ grad
    if before is not None:
        after = handed_back(q.mT @ grad, grad.new_zeros(1, 1, 1))
        grad_q = add_product(grad_q, grad, before.mT)
        grad_k = add_product(grad_k, v, after.mT)
        grad_v = add_product(grad_v, k, after)
    return grad_q, grad_k, grad_v


_UNDECAYED = ByHand(_undecayed_forward, _undecayed_backward)


def _summed(updates_NnKV: Tensor) -> Tensor:
    """Return the sum of the updates before each chunk (N, n, K, V)."""
    return carried(updates_NnKV, updates_NnKV.new_zeros(1, 1, 1))
