"""RG-LRU: the recurrent block of Griffin, a diagonal recurrence whose decays the input gates."""

from __future__ import annotations

import math
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
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.diagonal_scan import diagonal_scan
from hybridlab.errors import Problem

SHARPNESS = 8.0
"""c of the paper: the decay is a^(c r) with r in 0 to 1."""
DECAY_RANGE = (0.9, 0.999)
STEEPEST_ROOT = 1000.0
"""Largest slope of the square root in sqrt(1 - a^2), as in the authors' code: at a = 1 it would be infinite."""


@component(
    "rg_lru",
    kind="token_mixer",
    title="RG-LRU",
    summary="Griffin's recurrent block: short convolution, gated diagonal recurrence, GELU gate.",
    cost="linear",
    paper="https://arxiv.org/abs/2402.19427",
)
class RGLRU(Component):
    """Recurrent block of Griffin and Hawk, (B, L, D) to (B, L, D); W features in H blocks of P.

    ``h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t x_t)`` with ``a_t = exp(-8 r_t softplus(decay))``; the gates r and i are
    sigmoids, linear in x within each block, and x is the convolved input. The first position enters unscaled
    (``h_0 = i_0 x_0``), as in the authors' code. The output is ``(h * gelu(z)) Wo``.
    """

    class Params(base.Params):
        """Parameters of ``rg_lru``."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )
        heads: int = field(
            4,
            help="Blocks of features whose gates see only their own.",
            ge=1,
            le=1024,
            search=[1, 4, 8],
        )
        conv: int = field(4, help="Taps of the short convolution.", ge=1, le=64, unit="positions")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; decays at an open gate are uniform in .9 to .999 in their squares."""
        super().__init__(params, context)
        self.hidden = params.hidden or context.width
        size = self.hidden // params.heads
        self.project_gate = nn.Linear(context.features, self.hidden)
        self.project_in = nn.Linear(context.features, self.hidden)
        self.conv = DepthwiseConv(self.hidden, params.conv)
        bound = 1 / math.sqrt(size)
        # For each block the input gate and then the decay gate, so that one product gives both.
        self.gates = nn.Parameter(torch.empty(params.heads, size, 2 * size).uniform_(-bound, bound))
        self.gate_bias = nn.Parameter(torch.zeros(2 * self.hidden))
        low, high = (bound**2 for bound in DECAY_RANGE)
        rate_W = -torch.empty(self.hidden).uniform_(low, high).log() / 2 / SHARPNESS
        self.decay = nn.Parameter(torch.log(torch.expm1(rate_W)))
        self.project_out = nn.Linear(self.hidden, context.width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        x_BLW = self.conv(self.project_in(x_BLD))
        log_decay_BLW, gated_BLW = self._gated_inputs(x_BLW)
        scale_BLW = _bounded_root(-torch.expm1(2 * log_decay_BLW))
        scale_BLW = torch.cat((torch.ones_like(scale_BLW[:, :1]), scale_BLW[:, 1:]), 1)
        h_BLW = diagonal_scan(log_decay_BLW.exp(), gated_BLW * scale_BLW)
        return self._output(h_BLW, x_BLD)

    def _gated_inputs(self, x_BLW: Tensor) -> tuple[Tensor, Tensor]:
        """Return log a, at most 0, and i x, both (B, L, W) and in float32 or better."""
        blocks_BLHP = torch.unflatten(x_BLW, -1, (self.params.heads, -1))
        bias_HQ = self.gate_bias.view(self.params.heads, -1)
        gates_BLHP = torch.einsum("blhp,hpq->blhq", blocks_BLHP, self.gates) + bias_HQ
        input_BLW, decay_BLW = (gate.flatten(2).sigmoid() for gate in gates_BLHP.chunk(2, dim=-1))
        wide = float_dtype(decay_BLW)
        rate_W = SHARPNESS * F.softplus(self.decay.to(wide))
        return -decay_BLW.to(wide) * rate_W, (input_BLW * x_BLW).to(wide)

    def _output(self, h_BLW: Tensor, x_BLD: Tensor) -> Tensor:
        """Gate with the other branch and project to (B, L, D)."""
        gate_BLW = F.gelu(self.project_gate(x_BLD), approximate="tanh")
        out_BLD: Tensor = self.project_out(h_BLW.to(gate_BLW.dtype) * gate_BLW)
        return out_BLD

    def start(self, batch: int) -> State:
        """Return the convolution's last inputs, h (B, W), both zeros, and the number of positions read."""
        weight = self.project_in.weight
        h_BW = weight.new_zeros(batch, self.hidden, dtype=float_dtype(weight))
        return self.conv.start(batch), h_BW, weight.new_zeros((), dtype=torch.int64)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        before, h_BW, read = state
        x_BW, before = self.conv.step(before, self.project_in(x_BD))
        log_decay_B1W, gated_B1W = self._gated_inputs(x_BW.unsqueeze(1))
        log_decay_BW, gated_BW = log_decay_B1W.squeeze(1), gated_B1W.squeeze(1)
        scale_BW = torch.sqrt(-torch.expm1(2 * log_decay_BW)).masked_fill(read == 0, 1.0)
        h_BW = torch.addcmul(gated_BW * scale_BW, log_decay_BW.exp(), h_BW)
        y_B1D = self._output(h_BW.unsqueeze(1), x_BD.unsqueeze(1))
        return y_B1D.squeeze(1), (before, h_BW, read + 1)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        x_BLW = self.conv.reference(self.project_in(x_BLD))
        size = self.hidden // self.params.heads
        bias_HQ = self.gate_bias.view(self.params.heads, -1)
        h_BW, rows_BW = x_BLW.new_zeros(x_BLW.shape[0], self.hidden), []
        for t, x_BW in enumerate(x_BLW.unbind(1)):
            inputs_of, decays_of = [], []
            for head, x_BP in enumerate(torch.split(x_BW, size, dim=-1)):
                gates_BQ = torch.sigmoid(x_BP @ self.gates[head] + bias_HQ[head])
                inputs_of.append(gates_BQ[:, :size])
                decays_of.append(gates_BQ[:, size:])
            open_BW, r_BW = torch.cat(inputs_of, -1), torch.cat(decays_of, -1)
            a_BW = torch.exp(-SHARPNESS * r_BW * F.softplus(self.decay))
            scale_BW = torch.ones_like(a_BW) if t == 0 else (1 - a_BW**2).sqrt()
            h_BW = a_BW * h_BW + scale_BW * open_BW * x_BW
            rows_BW.append(h_BW)
        return self._output(torch.stack(rows_BW, 1), x_BLD)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the features."""
        hidden = params.hidden or context.width
        what = "width" if params.hidden is None else "hidden"
        yield from must_divide("heads", params.heads, hidden, what)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the state and of the last inputs of the convolution."""
        return params.conv * (params.hidden or context.width) * FLOAT32_BYTES


def _bounded_root(x: Tensor) -> Tensor:
    """Return the square root, to autograd a straight line with the root's slope, at most 1,000."""
    root = x.detach().sqrt()
    line = x * (0.5 / root.clamp(min=0.5 / STEEPEST_ROOT))
    return line + (root - line.detach())
