"""RWKV-4: a weighted average of all that came before, fading at a rate of each feature's own."""

from __future__ import annotations

import math

import torch
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
)
from hybridlab.components.token_mixers.wkv4 import NEVER, added, averaged, wkv4
from hybridlab.components.token_shift import previous, shares

LARGEST_LOG_RATE = 20.0
"""Rates stay below e^20 a position, which forgets all at once and still has a gradient."""


@component(
    "rwkv4",
    kind="token_mixer",
    title="RWKV-4",
    summary="Averages all earlier values with weights that fade, feature by feature; small constant memory.",
    cost="linear",
    paper="https://arxiv.org/abs/2305.13048",
)
class RWKV4(Component):
    """The time mix of RWKV-4, (B, L, D) to (B, L, D); A hidden features.

    Keys, values and receptances are linear in a mix of the input and the one before it. The average at t
    weighs v_s with ``exp(k_s - (t - 1 - s) w)`` for s < t and v_t with ``exp(u + k_t)``; the output is
    ``(sigmoid(r) * average) Wo``.
    """

    class Params(base.Params):
        """Parameters of ``rwkv4``."""

        hidden: int | None = field(
            None,
            help="Features that are averaged; empty: the width.",
            ge=1,
            le=65_536,
            unit="features",
        )

    params: Params
    loops = "Weights of exponentials need a running maximum: about 2 sqrt(L) small steps, in one autograd node."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps with fan-in weights; rates and bonuses start as a first layer's do."""
        super().__init__(params, context)
        hidden = params.hidden or context.width
        self.key_shift = nn.Parameter(shares(context.features, 1.0))
        self.value_shift = nn.Parameter(shares(context.features, 1.0))
        self.receptance_shift = nn.Parameter(shares(context.features, 0.5))
        self.key = nn.Linear(context.features, hidden, bias=False)
        self.value = nn.Linear(context.features, hidden, bias=False)
        self.receptance = nn.Linear(context.features, hidden, bias=False)
        place_A = torch.arange(hidden)
        self.log_rate = nn.Parameter(-5 + 8 * (place_A / max(1, hidden - 1)) ** 0.7)
        self.bonus = nn.Parameter(math.log(0.3) + 0.5 * ((place_A + 1) % 3 - 1))
        self.project_out = nn.Linear(hidden, context.width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        k_BLA, v_BLA, opened_BLA = self._parts(x_BLD, previous(x_BLD))
        average_BLA = wkv4(k_BLA, v_BLA, self._rate(k_BLA), self.bonus.to(k_BLA.dtype))
        y_BLD: Tensor = self.project_out(opened_BLA * average_BLA.to(opened_BLA.dtype))
        return y_BLD

    def _parts(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values (..., A), in float32 or better, and the opened receptances (..., A)."""
        change = before - x
        k = self.key(torch.addcmul(x, change, self.key_shift.to(x.dtype)))
        v = self.value(torch.addcmul(x, change, self.value_shift.to(x.dtype)))
        r = self.receptance(torch.addcmul(x, change, self.receptance_shift.to(x.dtype)))
        wide = float_dtype(k)
        return k.to(wide), v.to(wide), r.sigmoid()

    def _rate(self, like: Tensor) -> Tensor:
        """Return the rates w (A), in the dtype of ``like``."""
        return self.log_rate.to(like.dtype).clamp(max=LARGEST_LOG_RATE).exp()

    def start(self, batch: int) -> State:
        """Return the last input (B, D), numerator and denominator (2, B, A) as (B, 2, A), and m (B, A)."""
        weight = self.key.weight
        before_BD = weight.new_zeros(batch, self.context.features)
        sums_BPA = weight.new_zeros(batch, 2, weight.shape[0], dtype=float_dtype(weight))
        return before_BD, sums_BPA, torch.full_like(sums_BPA[:, 0], NEVER)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        before_BD, sums_BPA, m_BA = state
        k_BA, v_BA, opened_BA = self._parts(x_BD, before_BD)
        k_BA, v_BA = k_BA.to(m_BA.dtype), v_BA.to(m_BA.dtype)
        sums_PBA = sums_BPA.transpose(0, 1)
        average_BA, _, _ = averaged(sums_PBA, m_BA, k_BA, v_BA, self.bonus.to(m_BA.dtype))
        one_PBA = torch.stack((v_BA, torch.ones_like(v_BA)))
        sums_PBA, m_BA = added(sums_PBA, m_BA, k_BA, one_PBA, self._rate(m_BA))
        y_BD = self.project_out(opened_BA * average_BA.to(opened_BA.dtype))
        return y_BD, (x_BD, sums_PBA.transpose(0, 1), m_BA)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Weigh every pair of positions: a softmax over s of each feature's own log weights."""
        (x_BLD,) = inputs
        before_BLD = torch.cat((torch.zeros_like(x_BLD[:, :1]), x_BLD[:, :-1]), dim=1)
        k_BLA, v_BLA, r_BLA = (
            linear(x_BLD * (1 - share) + before_BLD * share)
            for linear, share in (
                (self.key, self.key_shift),
                (self.value, self.value_shift),
                (self.receptance, self.receptance_shift),
            )
        )
        at_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        age_LL = at_L.unsqueeze(1) - 1 - at_L
        logs_LLA = -age_LL.unsqueeze(-1) * self.log_rate.exp()
        logs_LLA = torch.where((age_LL == -1).unsqueeze(-1), self.bonus, logs_LLA)
        logs_LLA = logs_LLA.masked_fill((age_LL < -1).unsqueeze(-1), float("-inf"))
        weights_BLLA = (logs_LLA + k_BLA.unsqueeze(1)).softmax(2)
        average_BLA = (weights_BLLA * v_BLA.unsqueeze(1)).sum(2)
        y_BLD: Tensor = (average_BLA / (1 + (-r_BLA).exp())) @ self.project_out.weight.T
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the last input and of numerator, denominator and m."""
        return (context.features + 3 * (params.hidden or context.width)) * FLOAT32_BYTES
