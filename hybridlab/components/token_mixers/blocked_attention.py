"""Softmax attention with changed scores, a block of queries at a time, and a gradient of its own.

The fused kernels take no soft cap, no sinks, and distances only as a mask of (H, L, L). Here scores are
made, used and dropped block by block, forward and again backward, so that memory grows with the length
and not with its square; backward keeps queries, keys, values, the output and one number per query and
head. A window reads only the keys that it can see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridlab.components.base import float_dtype

CACHED_SCORES, LARGE_SCORES, LEAST_ROWS = 2**18, 2**26, 16
"""Scores that exist at the same time on a processor and on an accelerator, and the fewest queries of a block."""


def blocked_attention(
    q_BHLK: Tensor,
    k_BGSK: Tensor,
    v_BGSV: Tensor,
    *,
    scale: float,
    causal: bool,
    window: int | None = None,
    soft_cap: float | None = None,
    alibi: bool = False,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Attend with scores s = scale q k, capped to c tanh(s / c), less slope x distance.

    A sink is one more score in the softmax's denominator, which brings no value. The last query stands
    at the last key, so that one query may follow a cache.

    Args:
        q_BHLK: queries (B, H, L, K).
        k_BGSK: keys (B, G, S, K), G dividing H and S at least L.
        v_BGSV: values (B, G, S, V).
        scale: factor on the products.
        causal: whether later positions are hidden.
        window: positions a query sees on one side, itself included; None: all.
        soft_cap: bound c of the scores' size; None: none.
        alibi: whether distance lowers scores, by each head's slope.
        sinks_H: the sinks, one per head; None: none.

    Returns:
        (B, H, L, V).
    """
    if torch.is_autocast_enabled(q_BHLK.device.type):
        narrow = torch.get_autocast_dtype(q_BHLK.device.type)
        q_BHLK, k_BGSK, v_BGSV = (x.to(narrow) for x in (q_BHLK, k_BGSK, v_BGSV))
    y_BHLV: Tensor = _Blocked.apply(  # type: ignore[no-untyped-call]
        q_BHLK * scale, k_BGSK, v_BGSV, sinks_H, causal, window, soft_cap, alibi
    )
    return y_BHLV


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """Return what one position of distance takes from each head's scores (H), in float32.

    2^(-8/n), 2^(-16/n) ... for n heads, a power of two; further heads take every other slope of 2n
    (https://arxiv.org/abs/2108.12409).
    """
    n = 2 ** math.floor(math.log2(heads))
    exponents_n = torch.arange(1, n + 1, device=device) * (8 / n)
    further = (2 * torch.arange(heads - n, device=device) + 1) * (4 / n)
    return torch.exp2(-torch.cat((exponents_n, further)).float())


class _Rules(NamedTuple):
    """What changes scores, and how many positions the first query stands after the first key."""

    causal: bool
    window: int | None
    soft_cap: float | None
    alibi: bool
    offset: int


class _Blocked(torch.autograd.Function):
    """With p the weights and d the product of output and its gradient: ds = p (dp - d), dsink = -p_sink d."""

    @staticmethod
    def forward(
        ctx: Any,
        q_BHLK: Tensor,
        k_BGSK: Tensor,
        v_BGSV: Tensor,
        sinks_H: Tensor | None,
        causal: bool,
        window: int | None,
        soft_cap: float | None,
        alibi: bool,
    ) -> Tensor:
        offset = k_BGSK.shape[2] - q_BHLK.shape[2]
        rules = _Rules(causal, window, soft_cap, alibi, offset)
        rows_BHbV, totals_BHb1 = [], []
        for start, stop, low, high in _blocks(q_BHLK, k_BGSK, rules):
            scores_BHbs, _ = _scores(
                q_BHLK[:, :, start:stop], k_BGSK[:, :, low:high], start, low, rules
            )
            largest_BHb1 = scores_BHbs.amax(-1, keepdim=True)
            if sinks_H is not None:
                sinks_H11 = sinks_H.to(scores_BHbs.dtype)[:, None, None]
                largest_BHb1 = torch.maximum(largest_BHb1, sinks_H11)
            parts_BHbs = scores_BHbs.sub_(largest_BHb1).exp_()
            sum_BHb1 = parts_BHbs.sum(-1, keepdim=True)
            if sinks_H is not None:
                sum_BHb1 = sum_BHb1 + (sinks_H11 - largest_BHb1).exp()
            y_BHbV = _product(parts_BHbs.to(v_BGSV.dtype), v_BGSV[:, :, low:high])
            rows_BHbV.append((y_BHbV / sum_BHb1).to(v_BGSV.dtype))
            totals_BHb1.append(largest_BHb1 + sum_BHb1.log())
        y_BHLV, totals_BHL1 = torch.cat(rows_BHbV, 2), torch.cat(totals_BHb1, 2)
        ctx.rules = rules
        ctx.save_for_backward(q_BHLK, k_BGSK, v_BGSV, sinks_H, y_BHLV, totals_BHL1)
        return y_BHLV

    @staticmethod
    def backward(ctx: Any, grad_BHLV: Tensor) -> tuple[Tensor | None, ...]:
        q_BHLK, k_BGSK, v_BGSV, sinks_H, y_BHLV, totals_BHL1 = ctx.saved_tensors
        rules: _Rules = ctx.rules
        wide = totals_BHL1.dtype
        along_BHL1 = (grad_BHLV.to(wide) * y_BHLV.to(wide)).sum(-1, keepdim=True)
        grads_q = []
        grad_k_BGSK, grad_v_BGSV = (torch.zeros_like(x, dtype=wide) for x in (k_BGSK, v_BGSV))
        for start, stop, low, high in _blocks(q_BHLK, k_BGSK, rules):
            q, k, v = q_BHLK[:, :, start:stop], k_BGSK[:, :, low:high], v_BGSV[:, :, low:high]
            grad = grad_BHLV[:, :, start:stop]
            scores_BHbs, tanh_BHbs = _scores(q, k, start, low, rules)
            weights = scores_BHbs.sub_(totals_BHL1[:, :, start:stop]).exp_()
            grad_v_BGSV[:, :, low:high] += _sums(weights.to(v.dtype), grad, k.shape[1])
            grad_s = _product(grad, v.transpose(2, 3)).to(wide)
            grad_s = grad_s.sub_(along_BHL1[:, :, start:stop]).mul_(weights)
            if tanh_BHbs is not None:
                grad_s = grad_s.addcmul_(grad_s, tanh_BHbs.square_(), value=-1)
            grad_s = grad_s.to(q.dtype)
            grads_q.append(_product(grad_s, k))
            grad_k_BGSK[:, :, low:high] += _sums(grad_s, q, k.shape[1])
        grad_sinks_H = None
        if sinks_H is not None:
            share_BHL1 = (sinks_H.to(wide)[:, None, None] - totals_BHL1).exp()
            grad_sinks_H = -(share_BHL1 * along_BHL1).sum((0, 2, 3)).to(sinks_H.dtype)
        return (
            torch.cat(grads_q, 2),
            grad_k_BGSK.to(k_BGSK.dtype),
            grad_v_BGSV.to(v_BGSV.dtype),
            grad_sinks_H,
            *(None,) * 4,
        )


def _blocks(q_BHLK: Tensor, k_BGSK: Tensor, rules: _Rules) -> Iterator[tuple[int, int, int, int]]:
    """Yield blocks of queries with the keys that they may see: start, stop, low, high.

    A block is as large as keeps its scores in a processor's cache; what compiles is unrolled, and so
    takes the large blocks of an accelerator.
    """
    (batch, heads, length, _), keys = q_BHLK.shape, k_BGSK.shape[2]
    small = q_BHLK.device.type == "cpu" and not torch.compiler.is_compiling()
    at_once = CACHED_SCORES if small else LARGE_SCORES
    reach = keys if rules.window is None else rules.window - 1
    size = max(LEAST_ROWS, at_once // (batch * heads * min(keys, 2 * reach + 1)))
    if rules.window is not None:
        size = min(size, max(LEAST_ROWS, rules.window))
    for start in range(0, length, size):
        stop = min(length, start + size)
        ahead = 0 if rules.causal else reach
        low = max(0, start + rules.offset - reach)
        yield start, stop, low, min(keys, stop + rules.offset + ahead)


def _scores(
    q_BHbK: Tensor, k_BGsK: Tensor, start: int, low: int, rules: _Rules
) -> tuple[Tensor, Tensor | None]:
    """Return scores (B, H, b, s), minus infinity where hidden, and the cap's tanh where there is one."""
    products = _product(q_BHbK, k_BGsK.transpose(2, 3))
    scores_BHbs, tanh_BHbs = products.to(float_dtype(products)), None
    if rules.soft_cap is not None:
        tanh_BHbs = scores_BHbs.div_(rules.soft_cap).tanh_()
        scores_BHbs = tanh_BHbs * rules.soft_cap
    rows, columns, device = q_BHbK.shape[2], k_BGsK.shape[2], q_BHbK.device
    if rules.alibi or rules.window is not None:
        first = start + rules.offset - low
        query_b1 = torch.arange(first, first + rows, device=device)[:, None]
        distance_bs = query_b1 - torch.arange(columns, device=device)
        if rules.alibi:
            slopes_H11 = alibi_slopes(q_BHbK.shape[1], device).to(scores_BHbs.dtype)[:, None, None]
            size_bs = distance_bs.abs().to(scores_BHbs.dtype)
            scores_BHbs.addcmul_(slopes_H11, size_bs, value=-1)
        if rules.window is not None:
            scores_BHbs.masked_fill_(distance_bs.abs() >= rules.window, -math.inf)
    if rules.causal:
        # The last columns are the queries' own positions; all before them is visible.
        ahead_bb = torch.ones(rows, rows, dtype=torch.bool, device=device).triu(1)
        scores_BHbs[..., columns - rows :].masked_fill_(ahead_bb, -math.inf)
    return scores_BHbs, tanh_BHbs


def _product(a_BHbX: Tensor, b_BGXs: Tensor) -> Tensor:
    """Return (B, H, b, X) times (B, G, X, s), whose heads are shared by H / G others: (B, H, b, s)."""
    a_BGrX = a_BHbX.reshape(*b_BGXs.shape[:2], -1, a_BHbX.shape[-1])
    return (a_BGrX @ b_BGXs).reshape(*a_BHbX.shape[:-1], b_BGXs.shape[-1])


def _sums(weights_BHbs: Tensor, x_BHbX: Tensor, groups: int) -> Tensor:
    """Return the sum over queries, and over the heads that share keys, of weights x: (B, G, s, X)."""
    batch, columns, features = weights_BHbs.shape[0], weights_BHbs.shape[-1], x_BHbX.shape[-1]
    weights_BGrs = weights_BHbs.reshape(batch, groups, -1, columns)
    return weights_BGrs.transpose(2, 3) @ x_BHbX.reshape(batch, groups, -1, features)
