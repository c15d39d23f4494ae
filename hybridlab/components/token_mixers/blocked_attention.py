"""Softmax attention with changed scores, a block of queries at a time, and a gradient of its own.

The fused kernels take no soft cap, no sinks, and distances only as a mask of (H, L, L). Here scores are
made, used and dropped block by block, forward and again backward, so that memory grows with the length
and not with its square; backward keeps queries, keys, values, the output and one number per query and
head. A window reads only the keys that it can see.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import float_dtype

CACHED_SCORES, LARGE_SCORES, LEAST_ROWS = 2**17, 2**26, 64
"""Scores that exist at the same time on a processor and on an accelerator, and the fewest queries of a block."""

SMALLEST_LOG = -70.0


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
    offset: int


class _Block(NamedTuple):
    """Some queries of some heads, and the keys that they may see."""

    batch: slice
    heads: slice
    groups: slice
    rows: slice
    keys: slice

    @property
    def queries(self) -> tuple[slice, ...]:
        """Where they are in (B, H, L, ...)."""
        return self.batch, self.heads, self.rows

    @property
    def seen(self) -> tuple[slice, ...]:
        """Where their keys are in (B, G, S, ...)."""
        return self.batch, self.groups, self.keys


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
        rules = _Rules(causal, window, soft_cap, k_BGSK.shape[2] - q_BHLK.shape[2])
        slopes_H = alibi_slopes(q_BHLK.shape[1], q_BHLK.device) if alibi else None
        y_BHLV = q_BHLK.new_empty(*q_BHLK.shape[:3], v_BGSV.shape[-1])
        totals_BHL1 = q_BHLK.new_empty(*q_BHLK.shape[:3], 1, dtype=float_dtype(q_BHLK))
        for block in _blocks(q_BHLK, k_BGSK, rules):
            scores_BHbs, _ = _scores(q_BHLK, k_BGSK, slopes_H, block, rules)
            largest_BHb1 = scores_BHbs.amax(-1, keepdim=True)
            if sinks_H is not None:
                sinks_H11 = sinks_H[block.heads].to(scores_BHbs.dtype)[:, None, None]
                largest_BHb1 = torch.maximum(largest_BHb1, sinks_H11)
            parts_BHbs = _exponentials(scores_BHbs.sub_(largest_BHb1))
            sum_BHb1 = parts_BHbs.sum(-1, keepdim=True)
            if sinks_H is not None:
                sum_BHb1 = sum_BHb1 + (sinks_H11 - largest_BHb1).exp()
            y_BHbV = _product(parts_BHbs.to(v_BGSV.dtype), v_BGSV[block.seen])
            y_BHLV[block.queries] = (y_BHbV / sum_BHb1).to(y_BHLV.dtype)
            totals_BHL1[block.queries] = largest_BHb1 + sum_BHb1.log()
        ctx.rules = rules
        ctx.save_for_backward(q_BHLK, k_BGSK, v_BGSV, sinks_H, slopes_H, y_BHLV, totals_BHL1)
        return y_BHLV

    @staticmethod
    def backward(ctx: Any, grad_BHLV: Tensor) -> tuple[Tensor | None, ...]:
        q_BHLK, k_BGSK, v_BGSV, sinks_H, slopes_H, y_BHLV, totals_BHL1 = ctx.saved_tensors
        rules: _Rules = ctx.rules
        wide = totals_BHL1.dtype
        along_BHL1 = (grad_BHLV.to(wide) * y_BHLV.to(wide)).sum(-1, keepdim=True)
        grad_q_BHLK = torch.empty_like(q_BHLK)
        grad_k_BGSK, grad_v_BGSV = (torch.zeros_like(x, dtype=wide) for x in (k_BGSK, v_BGSV))
        for block in _blocks(q_BHLK, k_BGSK, rules):
            q, k, v = q_BHLK[block.queries], k_BGSK[block.seen], v_BGSV[block.seen]
            grad = grad_BHLV[block.queries]
            scores_BHbs, tanh_BHbs = _scores(q_BHLK, k_BGSK, slopes_H, block, rules)
            weights = _exponentials(scores_BHbs.sub_(totals_BHL1[block.queries]))
            grad_v_BGSV[block.seen] += _sums(weights.to(v.dtype), grad, k.shape[1])
            grad_s = _product(grad, v.transpose(2, 3)).to(wide)
            grad_s = grad_s.sub_(along_BHL1[block.queries]).mul_(weights)
            if tanh_BHbs is not None:
                grad_s = grad_s.addcmul_(grad_s, tanh_BHbs.square_(), value=-1)
            grad_s = grad_s.to(q.dtype)
            grad_q_BHLK[block.queries] = _product(grad_s, k)
            grad_k_BGSK[block.seen] += _sums(grad_s, q, k.shape[1])
        grad_sinks_H = None
        if sinks_H is not None:
            share_BHL1 = (sinks_H.to(wide)[:, None, None] - totals_BHL1).exp()
            grad_sinks_H = -(share_BHL1 * along_BHL1).sum((0, 2, 3)).to(sinks_H.dtype)
        return (
            grad_q_BHLK,
            grad_k_BGSK.to(k_BGSK.dtype),
            grad_v_BGSV.to(v_BGSV.dtype),
            grad_sinks_H,
            *(None,) * 4,
        )


def _blocks(q_BHLK: Tensor, k_BGSK: Tensor, rules: _Rules) -> Iterator[_Block]:
    """Yield blocks whose scores a processor's cache holds, or, on an accelerator, that keep it busy.

    A block has many rows of few heads rather than few rows of all, so that keys are read less often.
    What compiles is unrolled, and so takes the large blocks.
    """
    (batch, heads, length, _), (_, groups, keys, _) = q_BHLK.shape, k_BGSK.shape
    if torch.compiler.is_exporting():  # a graph for every length has no number of blocks
        yield _Block(*(slice(0, size) for size in (batch, heads, groups, length, keys)))
        return
    shared = heads // groups
    small = q_BHLK.device.type == "cpu" and not torch.compiler.is_compiling()
    reach = keys if rules.window is None else rules.window - 1
    scores = CACHED_SCORES if small else LARGE_SCORES
    row_scores = shared * min(keys, 2 * reach + 1)
    size = max(LEAST_ROWS, scores // row_scores)
    if rules.window is not None:
        size = min(size, max(LEAST_ROWS, rules.window))
    at_once = max(1, scores // (row_scores * min(size, length)))
    some_groups = min(groups, at_once)
    some_batch = max(1, min(batch, at_once // groups))
    ahead = 0 if rules.causal else reach
    for first, group, start in itertools.product(
        range(0, batch, some_batch), range(0, groups, some_groups), range(0, length, size)
    ):
        stop, after = min(length, start + size), min(groups, group + some_groups)
        low = max(0, start + rules.offset - reach)
        yield _Block(
            slice(first, first + some_batch),
            slice(group * shared, after * shared),
            slice(group, after),
            slice(start, stop),
            slice(low, min(keys, stop + rules.offset + ahead)),
        )


def _scores(
    q_BHLK: Tensor, k_BGSK: Tensor, slopes_H: Tensor | None, block: _Block, rules: _Rules
) -> tuple[Tensor, Tensor | None]:
    """Return scores (B, H, b, s), minus infinity where hidden, and the cap's tanh where there is one."""
    products = _product(q_BHLK[block.queries], k_BGSK[block.seen].transpose(2, 3))
    scores_BHbs, tanh_BHbs = products.to(float_dtype(products)), None
    if rules.soft_cap is not None:
        tanh_BHbs = scores_BHbs.div_(rules.soft_cap).tanh_()
        scores_BHbs = tanh_BHbs * rules.soft_cap
    (rows, columns), device = scores_BHbs.shape[2:], q_BHLK.device
    if slopes_H is not None or rules.window is not None:
        first = block.rows.start + rules.offset - block.keys.start
        query_b1 = torch.arange(first, first + rows, device=device)[:, None]
        size_bs = (query_b1 - torch.arange(columns, device=device)).abs_()
        if slopes_H is not None:
            slopes_H11 = slopes_H[block.heads].to(scores_BHbs.dtype)[:, None, None]
            scores_BHbs.addcmul_(slopes_H11, size_bs.to(scores_BHbs.dtype), value=-1)
        if rules.window is not None:
            scores_BHbs.masked_fill_(size_bs >= rules.window, -math.inf)
    if rules.causal:
        # The last columns are the queries' own positions; all before them is visible.
        ahead_bb = torch.ones(rows, rows, dtype=torch.bool, device=device).triu(1)
        scores_BHbs[..., columns - rows :].masked_fill_(ahead_bb, -math.inf)
    return scores_BHbs, tanh_BHbs


def _exponentials(scores_BHbs: Tensor) -> Tensor:
    """Return exp in place, with zero for what is below e^-70 of the largest, far below any resolution.

    Distances would leave many of them in the range where floats lose digits, and products are slow.
    """
    return F.threshold(scores_BHbs, SMALLEST_LOG, -math.inf, inplace=True).exp_()


def _product(a_BHbX: Tensor, b_BGXs: Tensor) -> Tensor:
    """Return (B, H, b, X) times (B, G, X, s), whose heads are shared by H / G others: (B, H, b, s)."""
    a_BGrX = a_BHbX.reshape(*b_BGXs.shape[:2], -1, a_BHbX.shape[-1])
    return (a_BGrX @ b_BGXs).reshape(*a_BHbX.shape[:-1], b_BGXs.shape[-1])


def _sums(weights_BHbs: Tensor, x_BHbX: Tensor, groups: int) -> Tensor:
    """Return the sum over queries, and over the heads that share keys, of weights x: (B, G, s, X)."""
    batch, columns, features = weights_BHbs.shape[0], weights_BHbs.shape[-1], x_BHbX.shape[-1]
    weights_BGrs = weights_BHbs.reshape(batch, groups, -1, columns)
    return weights_BGrs.transpose(2, 3) @ x_BHbX.reshape(batch, groups, -1, features)
