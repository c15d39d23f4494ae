"""RWKV-7 (Goose): a state that replaces what it holds under a key, and fades row by row."""

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
from hybridlab.components.token_mixers.rwkv7_chunks import LARGEST_RATE, rwkv7
from hybridlab.components.token_shift import LowRank, beside, previous, shares
from hybridlab.errors import Problem

NORM_EPS = 64e-5
KEY_EPS = 1e-12

Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@component(
    "rwkv7",
    kind="token_mixer",
    title="RWKV-7",
    summary="Goose: replaces what the state holds under a key, at a rate that the input chooses; tracks state.",
    cost="linear",
    paper="https://arxiv.org/abs/2503.14456",
)
class RWKV7(Component):
    """The time mix of RWKV-7, (B, L, D) to (B, L, D); H heads with states of K x K numbers, H K = D.

    ``S_t = S_(t-1) (diag(w_t) - k^_t (a_t * k^_t)^T) + v_t k_t^T`` and ``o_t = S_t r_t``: k^ is a
    normalised key, a the in-context learning rate, ``w = exp(-e^-0.5 sigmoid(.))`` the decay. The output
    is ``(g * (norm(o) + (r . (u * k)) v)) Wo``. Each part reads its own mix of the input and the one
    before it. Values are the layer's own; the residual from the first layer's values is left out.
    """

    class Params(base.Params):
        """Parameters of ``rwkv7``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        rank: int = field(
            32, help="Rank of the maps to decays and to learning rates.", ge=1, le=1024
        )
        gate_rank: int = field(64, help="Rank of the map to the output gate.", ge=1, le=4096)
        chunk: int = field(
            32,
            help="Positions per matrix product; changes speed and memory, not the result.",
            ge=2,
            le=64,
            unit="positions",
        )

    params: Params
    loops = "States pass from chunk to chunk through full matrices: one product a chunk, in one autograd node."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps with fan-in weights; shares, decays and rates start as a first layer's do."""
        super().__init__(params, context)
        features, width, heads = context.features, context.width, params.heads
        powers = (0.2, 0.9, 0.7, 0.7, 0.9, 0.2)  # of r, w, k, v, a and g
        self.shift = nn.Parameter(torch.cat([shares(features, power) for power in powers]))
        place_D = torch.arange(width) / max(1, width - 1)
        size = width // heads
        zigzag_D = torch.linspace(-1, 1, size).repeat(heads)
        zigzag_D = zigzag_D * zigzag_D.abs()
        self.receptance = nn.Linear(features, width, bias=False)
        self.key = nn.Linear(features, width, bias=False)
        self.value = nn.Linear(features, width, bias=False)
        decay_base_D = -5.5 + 6 * place_D + 2.5 * zigzag_D
        self.decay = LowRank(features, params.rank, decay_base_D)
        rate_base_D = -0.19 + 0.3 * zigzag_D + 0.4 * (place_D - 0.5)
        self.rate = LowRank(features, params.rank, rate_base_D)
        self.gate_down = nn.Linear(features, params.gate_rank, bias=False)
        self.gate_up = nn.Linear(params.gate_rank, width, bias=False)
        self.removal_scale = nn.Parameter(0.71 - 0.1 * (place_D - 0.5))
        self.rate_share = nn.Parameter(torch.full((width,), 1.02))
        self.bonus = nn.Parameter(torch.full((width,), -0.04))
        self.norm = HeadNorm(width, NORM_EPS, shift=True)
        self.project_out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        parts, gate_BLD = self._parts(x_BLD, previous(x_BLD))
        o_BLHK = rwkv7(*parts, self.params.chunk, gate_BLD.dtype)
        return self._gated(o_BLHK, parts, gate_BLD)

    def _parts(self, x: Tensor, before: Tensor) -> tuple[Parts, Tensor]:
        """Return r, k, v, a, b and log decays (..., H, K), in float32 or better, and the gate (..., D)."""
        shift = beside(self.shift, x).to(x.dtype)
        xr, xw, xk, xv, xa, xg = torch.addcmul(x, before - x, shift).unbind(0)
        decay = self.decay(xw, bent=True)
        log_decay = -LARGEST_RATE * decay.to(float_dtype(decay)).sigmoid()
        wide = log_decay.dtype
        r, k, v = (part.to(wide) for part in (self.receptance(xr), self.key(xk), self.value(xv)))
        rate = self.rate(xa, bent=False).to(wide).sigmoid()
        removed = k * self.removal_scale.to(wide)
        k = torch.addcmul(k, k * (rate - 1), self.rate_share.to(wide))
        r, k, v, removed, rate, log_decay = (
            torch.unflatten(part, -1, (self.params.heads, -1))
            for part in (r, k, v, removed, rate, log_decay)
        )
        removed = F.normalize(removed, dim=-1, eps=KEY_EPS)
        gate = self.gate_up(self.gate_down(xg).sigmoid())
        return (r, k, v, -removed, removed * rate, log_decay), gate

    def _gated(self, o: Tensor, parts: Parts, gate: Tensor) -> Tensor:
        """Normalise each head, add the bonus of the present, gate and project to (..., D)."""
        r, k, v = parts[:3]
        bonus_HK = torch.unflatten(self.bonus.to(k.dtype), 0, k.shape[-2:])
        present = (r * k * bonus_HK).sum(-1, keepdim=True) * v
        normed = self.norm(o) + present.flatten(-2)
        y: Tensor = self.project_out(normed.to(gate.dtype) * gate)
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
        parts, gate_BD = self._parts(x_BD, before_BD)
        r, k, v, a, b, log_decay = (part.to(state_BHKK.dtype) for part in parts)
        read_BH1K = a.unsqueeze(-2) @ state_BHKK
        state_BHKK = log_decay.exp().unsqueeze(-1) * state_BHKK
        state_BHKK = state_BHKK + b.unsqueeze(-1) * read_BH1K + k.unsqueeze(-1) * v.unsqueeze(-2)
        o_BHK = (r.unsqueeze(-2) @ state_BHKK).squeeze(-2)
        return self._gated(o_BHK, parts, gate_BD), (x_BD, state_BHKK)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper, with states of value rows and key columns as it has them."""
        (x_BLD,) = inputs
        before_BLD = torch.cat((torch.zeros_like(x_BLD[:, :1]), x_BLD[:, :-1]), dim=1)
        xr, xw, xk, xv, xa, xg = (
            x_BLD + (before_BLD - x_BLD) * share for share in self.shift.chunk(6)
        )
        decay = self.decay.down(xw).tanh() @ self.decay.up.weight.T + self.decay.up.bias
        rate = (self.rate.down(xa) @ self.rate.up.weight.T + self.rate.up.bias).sigmoid()
        key = self.key(xk)
        parts = (
            self.receptance(xr),
            (-LARGEST_RATE * decay.sigmoid()).exp(),
            key * (1 + (rate - 1) * self.rate_share),
            self.value(xv),
            key * self.removal_scale,
            rate,
        )
        apart = [torch.unflatten(part, -1, (self.params.heads, -1)).unbind(1) for part in parts]
        state_BHVK = torch.zeros_like(apart[3][0].unsqueeze(-1) * apart[2][0].unsqueeze(-2))
        rows_BD = []
        for r, w, k, v, removed, a in zip(*apart, strict=True):
            unit = removed / removed.square().sum(-1, keepdim=True).sqrt().clamp(min=KEY_EPS)
            taken_BHVK = unit.unsqueeze(-1) * (a * unit).unsqueeze(-2)
            move_BHKK = torch.diag_embed(w) - taken_BHVK
            state_BHVK = state_BHVK @ move_BHKK + v.unsqueeze(-1) * k.unsqueeze(-2)
            o_BHV = (state_BHVK * r.unsqueeze(-2)).sum(-1)
            centred_BHV = o_BHV - o_BHV.mean(-1, keepdim=True)
            deviation_BH1 = (centred_BHV.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
            normed_BD = (centred_BHV / deviation_BH1).flatten(1) * self.norm.scale
            bonus_HK = self.bonus.view(k.shape[1:])
            bonus_BD = ((r * bonus_HK * k).sum(-1, keepdim=True) * v).flatten(1)
            rows_BD.append(normed_BD + self.norm.shift + bonus_BD)
        gate_BLD = self.gate_down(xg).sigmoid() @ self.gate_up.weight.T
        y_BLD: Tensor = (torch.stack(rows_BD, 1) * gate_BLD) @ self.project_out.weight.T
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
