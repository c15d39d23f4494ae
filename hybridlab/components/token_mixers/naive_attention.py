"""Softmax attention and rotary positions as their papers write them: what judges the fast forms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridlab.components.rotary import RotaryParams


def attend_row_by_row(
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
    """Compute softmax(q k) v query by query; the arguments are those of ``attend``."""
    length, keys, features = q_BHLK.shape[2], k_BGSK.shape[2], q_BHLK.shape[3]
    scale = 1 / math.sqrt(features) if scale is None else scale
    group = q_BHLK.shape[1] // k_BGSK.shape[1]
    k_BHSK = torch.stack([k for k in k_BGSK.unbind(1) for _ in range(group)], 1)
    v_BHSV = torch.stack([v for v in v_BGSV.unbind(1) for _ in range(group)], 1)
    window = max(length, keys) if window is None else window
    rows_BHV = []
    for t, q_BHK in enumerate(q_BHLK.unbind(2)):
        first = max(0, t - window + 1)
        last = min(keys - 1, t if causal else t + window - 1)
        seen_BHSK, values_BHSV = k_BHSK[:, :, first : last + 1], v_BHSV[:, :, first : last + 1]
        scores_BHS = (seen_BHSK * q_BHK.unsqueeze(2)).sum(-1) * scale
        if soft_cap is not None:
            scores_BHS = soft_cap * torch.tanh(scores_BHS / soft_cap)
        if alibi:
            distances = [abs(t - j) for j in range(first, last + 1)]
            biases = [[-m * d for d in distances] for m in slopes(q_BHLK.shape[1])]
            scores_BHS = scores_BHS + torch.tensor(biases).to(scores_BHS)
        if sinks_H is not None:
            sinks_BH1 = sinks_H[None, :, None].expand(*scores_BHS.shape[:2], 1)
            weights_BHS = torch.cat((scores_BHS, sinks_BH1), -1).softmax(-1)[..., :-1]
        else:
            weights_BHS = scores_BHS.softmax(-1)
        rows_BHV.append((weights_BHS.unsqueeze(-1) * values_BHSV).sum(2))
    return torch.stack(rows_BHV, 2)


def slopes(heads: int) -> list[float]:
    """Return ALiBi's slopes by the rule of its paper's code."""
    if heads & (heads - 1) == 0:
        return [2 ** (-8 * (head + 1) / heads) for head in range(heads)]
    below = 2 ** int(math.log2(heads))
    return slopes(below) + slopes(2 * below)[0::2][: heads - below]


def turned_as_complex(x_BHLK: Tensor, params: RotaryParams, *, pairs: bool = False) -> Tensor:
    """Rotate by multiplying pairs, as complex numbers, with exp(i m theta)."""
    if not params.rotary:
        return x_BHLK
    if pairs:
        real_BHLR, imaginary_BHLR = x_BHLK[..., 0::2], x_BHLK[..., 1::2]
    else:
        real_BHLR, imaginary_BHLR = x_BHLK.chunk(2, dim=-1)
    half, length = real_BHLR.shape[-1], x_BHLK.shape[2]
    theta_R = torch.tensor([_theta(r, half, params) for r in range(half)])
    angle_LR = (torch.arange(length)[:, None] * theta_R).to(x_BHLK)
    magnitude = torch.full_like(angle_LR, params.magnitude)
    turned_BHLR = torch.complex(real_BHLR, imaginary_BHLR) * torch.polar(magnitude, angle_LR)
    return torch.cat((turned_BHLR.real, turned_BHLR.imag), dim=-1)


def _theta(r: int, half: int, params: RotaryParams) -> float:
    """Return the angle per position of pair ``r``, slowed as published models do."""
    theta = math.pow(params.rotary_base, -r / half)
    slowed = theta / params.rotary_factor
    wavelength = 2 * math.pi / theta
    slow, fast, trained = params.rotary_slow, params.fastest, params.rotary_trained
    match params.rotary_scaling:
        case "none":
            return theta
        case "linear":
            return slowed
        case "llama3":
            if wavelength < trained / fast:
                return theta
            if wavelength > trained / slow:
                return slowed
            smooth = (trained / wavelength - slow) / (fast - slow)
            return (1 - smooth) * slowed + smooth * theta
    size = 2 * half
    low, high = (
        size * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(params.rotary_base))
        for turns in (fast, slow)
    )
    if params.rotary_scaling == "yarn":
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = min(1.0, max(0.0, (r - low) / ((high - low) or 0.001)))
    return slowed * ramp + theta * (1 - ramp)
