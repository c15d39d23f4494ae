"""Softmax attention with changed scores, a block of queries at a time, and a gradient of its own.

The fused kernels take no soft cap, no sinks, and distances only as a mask of (H, L, L). Here scores are
made, used and dropped block by block, forward and again backward, so that memory grows with the length
and not with its square; backward keeps queries, keys, values, the output and one number per query and
head. A window reads only the keys that it can see.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridlab.components.base import float_dtype

BLOCK = 128
"""Queries whose scores exist at the same time."""


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
        q_BHLK, k_BGSK, v_BGSV, sinks_H, scale, causal, window, soft_cap, alibi
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

    scale: float
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
        scale: float,
        causal: bool,
        window: int | None,
        soft_cap: float | None,
        alibi: bool,
    ) -> Tensor:
        length, offset = q_BHLK.shape[2], k_BGSK.shape[2] - q_BHLK.shape[2]
        rules = _Rules(scale, causal, window, soft_cap, alibi, offset)
        rows_BHbV, totals_BHb = [], []
        for start in range(0, length, BLOCK):
            stop = min(length, start + BLOCK)
            low, high = _span(start, stop, k_BGSK.shape[2], rules)
            scores_BHbs, _ = _scores(
                q_BHLK[:, :, start:stop], k_BGSK[:, :, low:high], start, low, rules
            )
            total_BHb = scores_BHbs.logsumexp(-1)
            if sinks_H is not None:
                total_BHb = torch.logaddexp(total_BHb, sinks_H.to(total_BHb.dtype).unsqueeze(-1))
            weights_BHbs = scores_BHbs.sub_(total_BHb.unsqueeze(-1)).exp_().to(v_BGSV.dtype)
            rows_BHbV.append(_product(weights_BHbs, v_BGSV[:, :, low:high]))
            totals_BHb.append(total_BHb)
        y_BHLV, totals_BHL = torch.cat(rows_BHbV, 2), torch.cat(totals_BHb, 2)
        ctx.rules = rules
        ctx.save_for_backward(q_BHLK, k_BGSK, v_BGSV, sinks_H, y_BHLV, totals_BHL)
        return y_BHLV

    @staticmethod
    def backward(ctx: Any, grad_BHLV: Tensor) -> tuple[Tensor | None, ...]:
        q_BHLK, k_BGSK, v_BGSV, sinks_H, y_BHLV, totals_BHL = ctx.saved_tensors
        rules: _Rules = ctx.rules
        length, wide = q_BHLK.shape[2], totals_BHL.dtype
        along_BHL = (grad_BHLV.to(wide) * y_BHLV.to(wide)).sum(-1)
        grads_q = []
        grad_k_BGSK, grad_v_BGSV = (torch.zeros_like(x, dtype=wide) for x in (k_BGSK, v_BGSV))
        for start in range(0, length, BLOCK):
            stop = min(length, start + BLOCK)
            low, high = _span(start, stop, k_BGSK.shape[2], rules)
            q, k, v = q_BHLK[:, :, start:stop], k_BGSK[:, :, low:high], v_BGSV[:, :, low:high]
            grad = grad_BHLV[:, :, start:stop]
            scores_BHbs, tanh_BHbs = _scores(q, k, start, low, rules)
            weights = scores_BHbs.sub_(totals_BHL[:, :, start:stop].unsqueeze(-1)).exp_()
            grad_v_BGSV[:, :, low:high] += _sums(weights.to(v.dtype), grad, k.shape[1])
            grad_weights = _product(grad, v.transpose(2, 3)).to(wide)
            grad_s = grad_weights.sub_(along_BHL[:, :, start:stop].unsqueeze(-1)).mul_(weights)
            if tanh_BHbs is not None:
                grad_s = grad_s.mul_(1 - tanh_BHbs.square())
            grad_s = grad_s.mul_(rules.scale).to(q.dtype)
            grads_q.append(_product(grad_s, k))
            grad_k_BGSK[:, :, low:high] += _sums(grad_s, q, k.shape[1])
        grad_sinks_H = None
        if sinks_H is not None:
            share_BHL = (sinks_H.to(wide).unsqueeze(-1) - totals_BHL).exp()
            grad_sinks_H = -(share_BHL * along_BHL).sum((0, 2)).to(sinks_H.dtype)
        return (
            torch.cat(grads_q, 2).to(q_BHLK.dtype),
            grad_k_BGSK.to(k_BGSK.dtype),
            grad_v_BGSV.to(v_BGSV.dtype),
            grad_sinks_H,
            *(None,) * 5,
        )


def _span(start: int, stop: int, keys: int, rules: _Rules) -> tuple[int, int]:
    """Return the first key that queries ``start`` to ``stop`` may see, and the one after the last."""
    reach = keys if rules.window is None else rules.window - 1
    ahead = 0 if rules.causal else reach
    return max(0, start + rules.offset - reach), min(keys, stop + rules.offset + ahead)


def _scores(
    q_BHbK: Tensor, k_BGsK: Tensor, start: int, low: int, rules: _Rules
) -> tuple[Tensor, Tensor | None]:
    """Return scores (B, H, b, s), minus infinity where hidden, and the cap's tanh where there is one."""
    products = _product(q_BHbK, k_BGsK.transpose(2, 3))
    scores_BHbs, tanh_BHbs = products.to(float_dtype(products)) * rules.scale, None
    if rules.soft_cap is not None:
        tanh_BHbs = (scores_BHbs / rules.soft_cap).tanh()
        scores_BHbs = tanh_BHbs * rules.soft_cap
    rows, columns, device = q_BHbK.shape[2], k_BGsK.shape[2], q_BHbK.device
    first = start + rules.offset - low
    distance_bs = (
        torch.arange(rows, device=device)[:, None] - torch.arange(columns, device=device) + first
    )
    if rules.alibi:
        slopes_H11 = alibi_slopes(q_BHbK.shape[1], device).to(scores_BHbs.dtype)[:, None, None]
        scores_BHbs -= slopes_H11 * distance_bs.abs()
    if rules.window is not None:
        hidden_bs = distance_bs.abs() >= rules.window
        hidden_bs = hidden_bs | (distance_bs < 0) if rules.causal else hidden_bs
        scores_BHbs.masked_fill_(hidden_bs, -math.inf)
    elif rules.causal:
        scores_BHbs.masked_fill_(distance_bs < 0, -math.inf)
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
