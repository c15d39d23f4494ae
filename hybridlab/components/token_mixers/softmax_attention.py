"""Softmax attention by whichever form is fastest for what is asked of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.token_mixers.blocked_attention import blocked_attention
from hybridlab.components.token_mixers.sliding_window import window_attention


def attend(
    q_BHLK: Tensor,
    k_BGSK: Tensor,
    v_BGSV: Tensor,
    *,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
    soft_cap: float | None = None,
    alibi: bool = False,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Attend; the arguments are those of ``blocked_attention``, which computes what PyTorch's kernels cannot.

    Args:
        q_BHLK: queries (B, H, L, K).
        k_BGSK: keys (B, G, S, K), G dividing H.
        v_BGSV: values (B, G, S, V).
        causal: whether query t sees keys 0 to t alone.
        scale: factor on the products; None: 1 / sqrt(K).
        window: positions a query sees on one side, itself included, of as many keys as queries; None: all.
        soft_cap: bound of the scores' size; None: none.
        alibi: whether distance lowers scores.
        sinks_H: one more score per head that brings no value; None: none.

    Returns:
        (B, H, L, V).
    """
    scale = q_BHLK.shape[-1] ** -0.5 if scale is None else scale
    if soft_cap is not None or alibi or sinks_H is not None:
        return blocked_attention(
            q_BHLK,
            k_BGSK,
            v_BGSV,
            scale=scale,
            causal=causal,
            window=window,
            soft_cap=soft_cap,
            alibi=alibi,
            sinks_H=sinks_H,
        )
    # A graph that is exported is for every length, so that it cannot ask whether the window hides something.
    if window is not None and (torch.compiler.is_exporting() or window < q_BHLK.shape[2]):
        return window_attention(q_BHLK, k_BGSK, v_BGSV, window, causal=causal, scale=scale)
    return _fused(q_BHLK, k_BGSK, v_BGSV, causal, scale)


def _fused(q_BHLK: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, causal: bool, scale: float) -> Tensor:
    """Call PyTorch's kernel; those that do not make all scores want keys and values of one size: zeros fill up."""
    keys, values = q_BHLK.shape[-1], v_BGSV.shape[-1]
    if keys < values:
        q_BHLK, k_BGSK = (F.pad(x, (0, values - keys)) for x in (q_BHLK, k_BGSK))
    elif values < keys:
        v_BGSV = F.pad(v_BGSV, (0, keys - values))
    y_BHLV = F.scaled_dot_product_attention(
        q_BHLK,
        k_BGSK,
        v_BGSV,
        is_causal=causal,
        scale=scale,
        enable_gqa=q_BHLK.shape[1] != k_BGSK.shape[1],
    )
    return y_BHLV[..., :values] if values < keys else y_BHLV
