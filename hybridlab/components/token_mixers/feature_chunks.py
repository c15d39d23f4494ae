"""The chunked form of linear attention where each feature of the key forgets at a rate of its own.

As ``gla_chunks``, with queries and keys split once at the middles of their blocks of eight (``decayed_scores.Local``):
reading the state before a chunk and writing into the one after it take those factors too, times one number a block.

Dimensions: N sequences x heads, n chunks, c positions of a chunk, K features of a key, V of a value.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hybridlab.components.decayed_scan import add_product, states_after, states_before
from hybridlab.components.token_mixers.by_hand import ByHand, Parts
from hybridlab.components.token_mixers.decayed_scores import (
    Local,
    by_eights,
    feature_scores,
    feature_scores_backward,
    local_factors,
)


def feature_chunks(q_NncK: Tensor, k_NncK: Tensor, v_NncV: Tensor, total_NncK: Tensor) -> Tensor:
    """Compute what ``gla_chunks`` computes, for running sums (N, n, c, K) with a K of its own for each feature."""
    return _BY_FEATURE(q_NncK, k_NncK, v_NncV, total_NncK)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, and what backward needs: weights within chunks, states before them."""
    local = local_factors(q.unsqueeze(-2), k, total)
    weights = feature_scores(local).squeeze(-2)
    if v.shape[1] == 1:
        return weights @ v, weights, None
    reads, writes = _from_start(local), _to_end(local, total)
    before = states_before(_scaled(local.keys, writes).mT @ v, total[..., -1, :])
    o = add_product(weights @ v, _scaled(local.rows.squeeze(-2), reads), before)
    return o, weights, before


def _backward(saved: Any, needed: tuple[bool, ...], grad: Tensor) -> Parts:
    """With S before and G (the gradient of the state) after each chunk: dq, dk, dv, and dc = q dq - k dk."""
    q, k, v, total, weights, before = saved
    local = local_factors(q.unsqueeze(-2), k, total)
    grad_rows, grad_k = feature_scores_backward((grad @ v.mT).unsqueeze(-2), local)
    grad_q, grad_v = grad_rows.squeeze(-2), weights.mT @ grad
    after = None
    if before is not None:
        reads, writes = _from_start(local), _to_end(local, total)
        grad_before = _scaled(local.rows.squeeze(-2), reads).mT @ grad
        after = states_after(grad_before, total[..., -1, :])
        grad_v = add_product(grad_v, _scaled(local.keys, writes), after)
        by_eights(grad_q).addcmul_(by_eights(grad @ before.mT), reads)
        by_eights(grad_k).addcmul_(by_eights(v @ after.mT), writes)
    grad_total = None
    if needed[3]:
        grad_total = (local.rows.squeeze(-2) * grad_q).addcmul_(local.keys, grad_k, value=-1)
        if before is not None and after is not None:
            grad_total[:, :-1, -1] += (before[:, 1:] * after[:, :-1]).sum(-1)
        grad_total = grad_total.sum_to_size(total.shape)
    return grad_q.mul_(local.decays), grad_k.div_(local.decays), grad_v, grad_total


_BY_FEATURE = ByHand(_forward, _backward)


def _from_start(local: Local) -> Tensor:
    """Return the decays from a chunk's start to the middles of its blocks (N, n, c / 8, 1, K)."""
    return local.middles.exp().unsqueeze(-2)


def _to_end(local: Local, total: Tensor) -> Tensor:
    """Return the decays from the middles of a chunk's blocks to its end (N, n, c / 8, 1, K)."""
    return (total[..., -1:, :] - local.middles).exp().unsqueeze(-2)


def _scaled(x_NncK: Tensor, decays: Tensor) -> Tensor:
    """Return positions times the number of their block of eight (N, n, c, K)."""
    return (by_eights(x_NncK) * decays).flatten(-3, -2)
