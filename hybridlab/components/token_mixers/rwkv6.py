"""RWKV-6 (Finch): a matrix state whose rows fade as the input says, with a bonus for the present."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    FLOAT32_BYTES,
    BuildContext,
    Component,
    State,
    component,
    field,
    float_dtype,
    must_divide,
)
from hybridlab.components.head_norm import HeadNorm, not_single
from hybridlab.components.token_mixers.matrix_memory import recall
from hybridlab.components.token_shift import LowRank, beside, following, previous, shares
from hybridlab.errors import Problem

NORM_EPS = 64e-5
"""That of the authors: 1e-5 times the square of their head size divisor, 8."""

LARGEST_LOG_RATE = 5.0
"""A rate of e^5 a position already forgets all; beyond it only the gradient would overflow."""


@component(
    "rwkv6",
    kind="token_mixer",
    title="RWKV-6",
    summary="Finch: a matrix state whose rows fade as the input says, reading a learned mix with the step before.",
    cost="linear",
    paper="https://arxiv.org/abs/2404.05892",
)
class RWKV6(Component):
    """The time mix of RWKV-6, (B, L, D) to (B, L, D); H heads with states of K x K numbers, H K = D.

    ``S_t = diag(w_t) S_(t-1) + k_t v_t`` and ``o_t = r_t (S_(t-1) + diag(u) k_t v_t)``, with decays
    ``w = exp(-exp(base + tanh(x W1) W2))``; the output is ``(silu(g) * norm(o)) Wo``. Each of r, w, k, v and
    g reads its own mix of the input and the one before it, whose shares depend on both, through a low rank.
    """

    class Params(base.Params):
        """Parameters of ``rwkv6``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        mix_rank: int = field(
            32, help="Rank of each map to the shares of the position before.", ge=1, le=1024
        )
        decay_rank: int = field(
            64, help="Rank of the map from the input to the decays.", ge=1, le=1024
        )
        chunk: int = field(
            32,
            help="Positions per matrix product, rounded up to a power of two; changes speed and "
            "memory, not the result.",
            ge=8,
            le=1024,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps with fan-in weights; shares, decays and bonuses start as a first layer's do."""
        super().__init__(params, context)
        features, width = context.features, context.width
        self.mix_shift = nn.Parameter(shares(features, 1.0))
        self.mix_down = nn.Linear(features, 5 * params.mix_rank, bias=False)
        bound = params.mix_rank**-0.5
        mix_up = torch.empty(5, params.mix_rank, features).uniform_(-bound, bound)
        self.mix_up = nn.Parameter(mix_up)
        powers = (0.5, 1.0, 1.0, 1.0, 0.5)  # of r, w, k, v and g
        self.shift = nn.Parameter(torch.cat([shares(features, power) for power in powers]))
        self.receptance = nn.Linear(features, width, bias=False)
        place_D = torch.arange(width) / max(1, width - 1)
        self.rate = LowRank(features, params.decay_rank, -6 + 5 * place_D**0.7)
        self.key = nn.Linear(features, width, bias=False)
        self.value = nn.Linear(features, width, bias=False)
        self.gate = nn.Linear(features, width, bias=False)
        self.bonus = nn.Parameter(0.1 * ((torch.arange(width) + 1) % 3 - 1))
        self.norm = HeadNorm(width, NORM_EPS, shift=True)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        r, k, v, log_decay, gate_BLD = self._parts(x_BLD, previous(x_BLD))
        bonus_HK = torch.unflatten(self.bonus.to(k.dtype), 0, k.shape[-2:])
        return self._gated(finch(r, k, v, log_decay, bonus_HK, self.params.chunk), gate_BLD)

    def _parts(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return r, k, v and log decays (..., H, K), in float32 or better, and the gate (..., D)."""
        xr, xw, xk, xv, xg = self._mixes(x, before).unbind(0)
        rate = self.rate(xw, bent=True)
        rate = rate.to(float_dtype(rate)).clamp(max=LARGEST_LOG_RATE).exp()
        parts = (self.receptance(xr), self.key(xk), self.value(xv), -rate)
        r, k, v, log_decay = (
            torch.unflatten(part.to(rate.dtype), -1, (self.params.heads, -1)) for part in parts
        )
        return r, k, v, log_decay, F.silu(self.gate(xg))

    def _mixes(self, x: Tensor, before: Tensor) -> Tensor:
        """Return the five mixes of the input and the one before it, (5, ..., D)."""
        change = before - x
        mixed = torch.addcmul(x, change, self.mix_shift.to(x.dtype))
        inner = torch.unflatten(self.mix_down(mixed).tanh(), -1, (5, -1))
        share = torch.einsum("...mr,mrd->m...d", inner, self.mix_up) + beside(self.shift, x)
        return torch.addcmul(x, change, share.to(x.dtype))

    def _gated(self, o: Tensor, gate: Tensor) -> Tensor:
        """Normalise each head, gate and project to (..., D)."""
        y: Tensor = self.project_out(self.norm(o).to(gate.dtype) * gate)
        return y

    def start(self, batch: int) -> State:
        """Return the last input (B, D) and the states (B, H, K, K), zeros."""
        weight, heads = self.key.weight, self.params.heads
        size = self.context.width // heads
        state_BHKK = weight.new_zeros(batch, heads, size, size, dtype=float_dtype(weight))
        return weight.new_zeros(batch, self.context.features), state_BHKK

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        before_BD, state_BHKK = state
        *parts, gate_BD = self._parts(x_BD, before_BD)
        r, k, v, log_decay = (part.to(state_BHKK.dtype) for part in parts)
        bonus_HK = torch.unflatten(self.bonus.to(k.dtype), 0, k.shape[-2:])
        written_BHKK = k.unsqueeze(-1) * v.unsqueeze(-2)
        seen_BHKK = torch.addcmul(state_BHKK, bonus_HK.unsqueeze(-1), written_BHKK)
        o_BHK = (r.unsqueeze(-2) @ seen_BHKK).squeeze(-2)
        state_BHKK = torch.addcmul(written_BHKK, state_BHKK, log_decay.exp().unsqueeze(-1))
        return self._gated(o_BHK, gate_BD), (x_BD, state_BHKK)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        before_BLD = torch.cat((torch.zeros_like(x_BLD[:, :1]), x_BLD[:, :-1]), dim=1)
        mixed_BLD = x_BLD + (before_BLD - x_BLD) * self.mix_shift
        inner = self.mix_down(mixed_BLD).tanh().chunk(5, dim=-1)
        xr, xw, xk, xv, xg = (
            x_BLD + (before_BLD - x_BLD) * (share_D + inner_BLR @ up_RD)
            for share_D, inner_BLR, up_RD in zip(
                self.shift.chunk(5), inner, self.mix_up, strict=True
            )
        )
        rate = self.rate.down(xw).tanh() @ self.rate.up.weight.T + self.rate.up.bias
        parts = (self.receptance(xr), self.key(xk), self.value(xv), (-rate.exp()).exp())
        r, k, v, w = (torch.unflatten(part, -1, (self.params.heads, -1)) for part in parts)
        w = torch.cat((torch.ones_like(w[:, :1]), w), dim=1)[:, :-1]  # what fades before t is read
        bonus_HK1 = self.bonus.view(k.shape[2:]).unsqueeze(-1)
        state_BHKK = written_BHKK = torch.zeros_like(k[:, 0].unsqueeze(-1) * v[:, 0].unsqueeze(-2))
        rows_BHK = []
        for r_BHK, k_BHK, v_BHK, w_BHK in zip(*(x.unbind(1) for x in (r, k, v, w)), strict=True):
            state_BHKK = w_BHK.unsqueeze(-1) * state_BHKK + written_BHKK
            written_BHKK = k_BHK.unsqueeze(-1) * v_BHK.unsqueeze(-2)
            seen_BHKK = state_BHKK + bonus_HK1 * written_BHKK
            rows_BHK.append((r_BHK.unsqueeze(-1) * seen_BHKK).sum(-2))
        o_BLD = torch.stack(rows_BHK, 1).flatten(2)
        scale, shift = self.norm.scale, self.norm.shift
        normed_ND = F.group_norm(o_BLD.flatten(0, 1), self.params.heads, scale, shift, NORM_EPS)
        gate_BLD = self.gate(xg)
        opened_BLD = normed_ND.view_as(o_BLD) * gate_BLD * gate_BLD.sigmoid()
        y_BLD: Tensor = opened_BLD @ self.project_out.weight.T
        return y_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width."""
        yield from must_divide("heads", params.heads, context.width, "width")
        yield from not_single("heads", params.heads, context.width)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of H x K x K numbers and of the last input."""
        return (context.width**2 / params.heads + context.features) * FLOAT32_BYTES


def finch(
    r_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    log_decay_BLHK: Tensor,
    bonus_HK: Tensor,
    chunk: int,
) -> Tensor:
    """Compute o_t = r_t (S_(t-1) + diag(u) k_t v_t), (B, L, H, V).

    The present is read apart from the state before it. So the scan, which reads the state after each position, is asked
    at t - 1 with the receptance of t.
    """
    after_BLHV = recall(following(r_BLHK), k_BLHK, v_BLHV, log_decay_BLHK, chunk=chunk)
    before_BLHV = F.pad(after_BLHV, (0, 0, 0, 0, 1, -1))
    present_BLH1 = (r_BLHK * k_BLHK * bonus_HK).sum(-1, keepdim=True)
    return torch.addcmul(before_BLHV, present_BLH1, v_BLHV)
