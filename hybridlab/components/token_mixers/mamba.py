"""Mamba: a selective state space with a decay of its own for every feature and state."""

from __future__ import annotations

import math

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
    undecayed,
)
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.selective_scan import selective_scan

STEP_RANGE = (0.001, 0.1)


@component(
    "mamba",
    kind="token_mixer",
    title="Mamba",
    summary="A state per feature that the input itself decides to keep, to change or to read.",
    cost="linear",
    paper="https://arxiv.org/abs/2312.00752",
)
class Mamba(Component):
    """Mamba block with the selective scan S6, (B, L, D) to (B, L, D); E = expand x width features of N states.

    Per feature, with step dt > 0 and rates A < 0: ``h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t`` and
    ``y_t = C_t h_t + skip x_t``, where dt, B and C are linear in the convolved input x; the output is
    ``(y * silu(z)) Wo``. Jamba normalises dt, B and C before they are used (https://arxiv.org/abs/2403.19887).
    """

    class Params(base.Params):
        """Parameters of ``mamba``."""

        state: int = field(
            16,
            help="Size of the state per feature; larger remembers more.",
            ge=1,
            le=1024,
            search=[8, 16, 32],
        )
        expand: int = field(
            2, help="Inner features per feature of the width.", ge=1, le=16, search=[1, 2]
        )
        step_rank: int | None = field(
            None,
            help="Rank of the map from the input to the steps; empty: width / 16.",
            ge=1,
            le=4096,
        )
        conv: int = field(
            4, help="Taps of the short convolution before the scan.", ge=1, le=64, unit="positions"
        )
        conv_bias: bool = field(True, help="Give the convolution a bias.")
        bias: bool = field(False, help="Give the maps in and out a bias.")
        norms: bool = field(
            False, help="Normalise what steps, writes and reads are made from, as Jamba does."
        )
        eps: float = field(1e-6, help="What these norms add to the mean square.", gt=0, le=0.1)

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; rates are 1 to N for each feature, steps log-uniform in .001 to .1."""
        super().__init__(params, context)
        self.inner = params.expand * context.width
        rank = params.step_rank or math.ceil(context.width / 16)
        self.sizes = [rank, params.state, params.state]
        self.project_in = nn.Linear(context.features, 2 * self.inner, bias=params.bias)
        self.conv = DepthwiseConv(self.inner, params.conv, bias=params.conv_bias)
        self.select = nn.Linear(self.inner, sum(self.sizes), bias=False)
        self.step_norm, self.write_norm, self.read_norm = (
            RootMeanSquare(size, params.eps) if params.norms else nn.Identity()
            for size in self.sizes
        )
        self.project_step = nn.Linear(rank, self.inner)
        nn.init.uniform_(self.project_step.weight, -(rank**-0.5), rank**-0.5)
        low, high = (math.log(bound) for bound in STEP_RANGE)
        step_E = torch.empty(self.inner).uniform_(low, high).exp()
        self.project_step.bias = nn.Parameter(step_E + torch.log(-torch.expm1(-step_E)))
        rates_N = torch.arange(1, params.state + 1, dtype=torch.get_default_dtype())
        self.log_rate = undecayed(nn.Parameter(rates_N.log().repeat(self.inner, 1)))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.project_out = nn.Linear(self.inner, context.width, bias=params.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        mixed_BLE, gate_BLE = self.project_in(x_BLD).chunk(2, dim=-1)
        x_BLE = F.silu(self.conv(mixed_BLE))
        dt_BLE, write_BLN, read_BLN = self._selected(x_BLE)
        wide = dt_BLE.dtype
        y_BLE = selective_scan(
            x_BLE.to(wide), dt_BLE, self._rate().T, write_BLN.to(wide), read_BLN.to(wide)
        )
        return self._gated(y_BLE.to(x_BLE.dtype), x_BLE, gate_BLE)

    def _selected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the steps (..., E) in float32 or better, and B and C (..., N)."""
        step, write, read = torch.split(self.select(x), self.sizes, dim=-1)
        logits = self.project_step(self.step_norm(step))
        dt = F.softplus(logits.to(float_dtype(logits)))
        return dt, self.write_norm(write), self.read_norm(read)

    def _rate(self) -> Tensor:
        """Return A (E, N), below 0, in float32 or better."""
        return -self.log_rate.to(float_dtype(self.log_rate)).exp()

    def _gated(self, y: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        """Add the skip, gate and project to (..., D)."""
        out: Tensor = self.project_out(torch.addcmul(y, x, self.skip.to(x.dtype)) * F.silu(gate))
        return out

    def start(self, batch: int) -> State:
        """Return the convolution's last inputs and the states (B, E, N), zeros."""
        sizes = (batch, *self.log_rate.shape)
        return self.conv.start(batch), self.skip.new_zeros(sizes, dtype=float_dtype(self.skip))

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        before, h_BEN = state
        mixed_BE, gate_BE = self.project_in(x_BD).chunk(2, dim=-1)
        convolved_BE, before = self.conv.step(before, mixed_BE)
        x_BE = F.silu(convolved_BE)
        dt_BE, write_BN, read_BN = self._selected(x_BE)
        decay_BEN = (dt_BE.unsqueeze(-1) * self._rate()).exp()
        written_BEN = (dt_BE * x_BE).unsqueeze(-1) * write_BN.unsqueeze(-2)
        h_BEN = torch.addcmul(written_BEN.to(h_BEN.dtype), decay_BEN, h_BEN)
        y_BE = (h_BEN @ read_BN.to(h_BEN.dtype).unsqueeze(-1)).squeeze(-1)
        return self._gated(y_BE.to(x_BE.dtype), x_BE, gate_BE), (before, h_BEN)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        mixed_BLE, gate_BLE = self.project_in(x_BLD).chunk(2, dim=-1)
        x_BLE = F.silu(self.conv.reference(mixed_BLE))
        dt_BLE, write_BLN, read_BLN = self._selected(x_BLE)
        h_BEN = x_BLE.new_zeros(x_BLE.shape[0], *self.log_rate.shape)
        rows_BE = []
        for x_BE, dt_BE, write_BN, read_BN in zip(
            *(part.unbind(1) for part in (x_BLE, dt_BLE, write_BLN, read_BLN)), strict=True
        ):
            decay_BEN = torch.exp(-dt_BE.unsqueeze(-1) * self.log_rate.exp())
            h_BEN = decay_BEN * h_BEN + dt_BE.unsqueeze(-1) * write_BN[:, None] * x_BE[..., None]
            rows_BE.append((h_BEN * read_BN[:, None]).sum(-1))
        return self._gated(torch.stack(rows_BE, 1), x_BLE, gate_BLE)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A scan from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of E x N numbers and of the last inputs of the convolution."""
        return params.expand * context.width * (params.state + params.conv - 1) * FLOAT32_BYTES
