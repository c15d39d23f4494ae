"""Mamba-2: a selective state space whose scan is done as matrix products in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

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
from hybridlab.components.decayed_scan import decayed_step
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.gpu_kernels import kernel_for
from hybridlab.components.root_mean_square import RootMeanSquare, rms_norm
from hybridlab.components.token_mixers.ssd_chunks import ssd
from hybridlab.errors import Problem

STEP_RANGE = (0.001, 0.1)
DECAY_RATE_RANGE = (1.0, 16.0)


@component(
    "mamba2",
    kind="token_mixer",
    title="Mamba-2",
    summary="A state that the input itself decides to keep, to change or to read; constant memory.",
    cost="linear",
    paper="https://arxiv.org/abs/2405.21060",
)
class Mamba2(Component):
    """Mamba-2 block, (B, L, D) to (B, L, D).

    H heads of P features (H P = expand x width = E), each with a state of S x P numbers; G groups of heads
    share the maps B (what is written) and C (what is read). Per head, with step dt > 0 and decay
    rate A < 0: ``h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t`` and ``y_t = C_t h_t + skip x_t``.
    The output is ``norm(y * silu(z)) Wo``. Hybrids vary that: the norm in groups (Bamba, Zamba2, Nemotron-H,
    Granite 4), before the gate or left out (Falcon-H1).
    """

    class Params(base.Params):
        """Parameters of ``mamba2``."""

        state: int = field(
            16,
            help="Size of the state per feature; larger remembers more.",
            ge=1,
            le=1024,
            search=[8, 16, 32, 64],
        )
        heads: int = field(
            4, help="Heads, each with its own decay and step.", ge=1, le=1024, search=[2, 4, 8]
        )
        expand: int = field(
            2, help="Inner features per feature of the width.", ge=1, le=16, search=[1, 2]
        )
        head_dim: int | None = field(
            None,
            help="Features of a head, whatever the width; empty: expand x width / heads.",
            ge=1,
            le=4096,
            unit="features",
        )
        groups: int = field(
            1, help="Groups of heads that share what is written and read.", ge=1, le=1024
        )
        conv: int = field(
            4, help="Taps of the short convolution before the scan.", ge=1, le=64, unit="positions"
        )
        conv_bias: bool = field(True, help="Give the convolution a bias.")
        bias: bool = field(False, help="Give the maps in and out a bias.")
        norm: Literal["after_gate", "before_gate", "none"] = field(
            "after_gate",
            help="Where what was read is normalised: after the gate, before it, nowhere.",
        )
        norm_groups: int = field(
            1, help="Groups of features that are normalised each for itself.", ge=1, le=1024
        )
        eps: float = field(1e-5, help="What the norm adds to the mean square.", gt=0, le=0.1)
        step_min: float = field(
            0.0, help="Smallest step; smaller ones are raised to it.", ge=0, le=100
        )
        step_max: float | None = field(
            None, help="Largest step; larger ones are lowered to it; empty: no limit.", gt=0, le=1e6
        )
        chunk: int = field(
            64,
            help="Positions per matrix product; changes speed and memory, not the result.",
            ge=2,
            le=1024,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; decay rates are uniform in 1 to 16, steps log-uniform in .001 to .1."""
        super().__init__(params, context)
        self.inner = _inner(params, context.width)
        mixed = self.inner + 2 * params.groups * params.state
        self.sizes = [self.inner, mixed, params.heads]
        self.project_in = nn.Linear(context.features, sum(self.sizes), bias=params.bias)
        self.conv = DepthwiseConv(mixed, params.conv, bias=params.conv_bias)
        low, high = (math.log(bound) for bound in STEP_RANGE)
        step_H = torch.empty(params.heads).uniform_(low, high).exp()
        self.step_bias = nn.Parameter(step_H + torch.log(-torch.expm1(-step_H)))
        self.log_rate = nn.Parameter(torch.empty(params.heads).uniform_(*DECAY_RATE_RANGE).log())
        self.skip = nn.Parameter(torch.ones(params.heads))
        self.norm = None if params.norm == "none" else RootMeanSquare(self.inner, params.eps)
        self.project_out = nn.Linear(self.inner, context.width, bias=params.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        gate_BLE, mixed_BLM, step_BLH = torch.split(self.project_in(x_BLD), self.sizes, dim=-1)
        x_BLHP, write_BLGS, read_BLGS = self._parts(self.conv(mixed_BLM))
        dt_BLH, log_decay_BLH = self._steps(step_BLH)
        chunk, kernel = self.params.chunk, kernel_for("ssd", x_BLHP)
        if kernel is None:
            y_BLHP = ssd(x_BLHP, dt_BLH, log_decay_BLH, write_BLGS, read_BLGS, chunk)
        else:
            y_BLHP = kernel(x_BLHP, dt_BLH, self._rate(), write_BLGS, read_BLGS, chunk)
        return self._gated(y_BLHP, x_BLHP, gate_BLE)

    def mixing_matrix(self, *inputs: Tensor) -> Tensor:
        """Return the semiseparable matrices (B, H, L, L) of the scan, steps included, with the skip on the diagonal.

        That is C_t . B_s exp(dt_(s+1) A + ... + dt_t A) dt_s for s <= t: what is read of one-hot values.
        """
        (x_BLD,) = inputs
        _, mixed_BLM, step_BLH = torch.split(self.project_in(x_BLD), self.sizes, dim=-1)
        x_BLHP, write_BLGS, read_BLGS = self._parts(self.conv(mixed_BLM))
        length = x_BLHP.shape[1]
        eye_LL = torch.eye(length, dtype=x_BLHP.dtype, device=x_BLHP.device)
        eye_BLHL = eye_LL[:, None].expand(len(x_BLHP), length, self.params.heads, length)
        y_BLHL = ssd(eye_BLHL, *self._steps(step_BLH), write_BLGS, read_BLGS, self.params.chunk)
        return (y_BLHL + eye_BLHL * self.skip.unsqueeze(-1).to(y_BLHL.dtype)).transpose(1, 2)

    def _parts(self, mixed_BLM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the convolved features into x (B, L, H, P), B and C (B, L, G, S)."""
        groups, state = self.params.groups, self.params.state
        sizes = [self.inner, groups * state, groups * state]
        x_BLE, write, read = torch.split(F.silu(mixed_BLM), sizes, dim=-1)
        return (
            torch.unflatten(x_BLE, -1, (self.params.heads, -1)),
            torch.unflatten(write, -1, (groups, state)),
            torch.unflatten(read, -1, (groups, state)),
        )

    def _steps(self, step_BLH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step dt and the log decay dt A (B, L, H), in float32 or better."""
        wide = float_dtype(step_BLH)
        dt_BLH = F.softplus(step_BLH.to(wide) + self.step_bias.to(wide))
        if self.params.step_min > 0 or self.params.step_max is not None:
            dt_BLH = dt_BLH.clamp(self.params.step_min, self.params.step_max)
        return dt_BLH, dt_BLH * self._rate()

    def _rate(self) -> Tensor:
        """Return A (H), below 0, in float32 or better."""
        return -self.log_rate.to(float_dtype(self.log_rate)).exp()

    def _gated(self, y_BLHP: Tensor, x_BLHP: Tensor, gate_BLE: Tensor) -> Tensor:
        """Add the skip, gate, normalise and project to (B, L, D)."""
        y_BLHP = torch.addcmul(y_BLHP, x_BLHP, self.skip.unsqueeze(-1).to(x_BLHP.dtype))
        y_BLE, opened_BLE = y_BLHP.flatten(2), F.silu(gate_BLE)
        if self.params.norm == "before_gate":
            gated_BLE = self._normed(y_BLE) * opened_BLE
        else:
            gated_BLE = self._normed(y_BLE * opened_BLE)
        out_BLD: Tensor = self.project_out(gated_BLE)
        return out_BLD

    def _normed(self, y_BLE: Tensor) -> Tensor:
        """Normalise (B, L, E), each group of features for itself."""
        if self.norm is None or self.params.norm_groups == 1:
            return y_BLE if self.norm is None else self.norm(y_BLE)
        groups_BLGE = torch.unflatten(y_BLE, -1, (self.params.norm_groups, -1))
        normed_BLE = rms_norm(groups_BLGE, None, self.norm.eps).flatten(2)
        return normed_BLE * self.norm.scale.to(y_BLE.dtype)

    def start(self, batch: int) -> State:
        """Return the convolution's last inputs and the states (B, H, S, P), zeros."""
        heads, features = self.params.heads, self.inner // self.params.heads
        sizes = (batch, heads, self.params.state, features)
        return self.conv.start(batch), self.skip.new_zeros(sizes, dtype=float_dtype(self.skip))

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        before, h_BHSP = state
        gate_B1E, mixed_B1M, step_B1H = torch.split(
            self.project_in(x_BD.unsqueeze(1)), self.sizes, dim=-1
        )
        mixed_BM, before = self.conv.step(before, mixed_B1M.squeeze(1))
        x_B1HP, write_B1GS, read_B1GS = self._parts(mixed_BM.unsqueeze(1))
        dt_B1H, log_decay_B1H = self._steps(step_B1H)
        per_group = self.params.heads // self.params.groups
        write_BHS = write_B1GS.squeeze(1).repeat_interleave(per_group, dim=1)
        read_BHS = read_B1GS.squeeze(1).repeat_interleave(per_group, dim=1)
        written_BHP = x_B1HP.squeeze(1) * dt_B1H.squeeze(1).unsqueeze(-1)
        y_BHP, h_BHSP = decayed_step(
            h_BHSP, read_BHS, write_BHS, written_BHP, log_decay_B1H.squeeze(1).unsqueeze(-1)
        )
        y_B1HP = y_BHP.unsqueeze(1).to(x_B1HP.dtype)
        return self._gated(y_B1HP, x_B1HP, gate_B1E).squeeze(1), (before, h_BHSP)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        gate_BLE, mixed_BLM, step_BLH = torch.split(self.project_in(x_BLD), self.sizes, dim=-1)
        x_BLHP, write_BLGS, read_BLGS = self._parts(self.conv.reference(mixed_BLM))
        dt_BLH, log_decay_BLH = self._steps(step_BLH)
        per_group = self.params.heads // self.params.groups
        write_BLHS = write_BLGS.repeat_interleave(per_group, dim=2)
        read_BLHS = read_BLGS.repeat_interleave(per_group, dim=2)
        h_BHSP = x_BLHP.new_zeros(
            x_BLHP.shape[0], self.params.heads, self.params.state, x_BLHP.shape[-1]
        )
        rows_BHP = []
        for x_BHP, dt_BH, log_decay_BH, write_BHS, read_BHS in zip(
            x_BLHP.unbind(1),
            dt_BLH.unbind(1),
            log_decay_BLH.unbind(1),
            write_BLHS.unbind(1),
            read_BLHS.unbind(1),
            strict=True,
        ):
            decay_BH11 = log_decay_BH.exp()[..., None, None]
            written_BHSP = dt_BH[..., None, None] * write_BHS.unsqueeze(-1) * x_BHP.unsqueeze(-2)
            h_BHSP = decay_BH11 * h_BHSP + written_BHSP
            rows_BHP.append((read_BHS.unsqueeze(-1) * h_BHSP).sum(-2))
        return self._gated(torch.stack(rows_BHP, 1), x_BLHP, gate_BLE)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads or groups do not divide what they share, or no step is possible."""
        inner = _inner(params, context.width)
        if params.head_dim is None:
            yield from must_divide("heads", params.heads, inner, f"{params.expand} x width =")
        yield from must_divide("groups", params.groups, params.heads, "heads")
        if params.norm != "none":
            yield from must_divide("norm_groups", params.norm_groups, inner, "the inner features,")
        if params.step_max is not None and params.step_max < params.step_min:
            yield Problem(
                "step_max",
                "the largest step is smaller than the smallest",
                f"at least {params.step_min:g}",
                f"{params.step_max:g}",
                "raise step_max or lower step_min",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A scan from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of S x E numbers and of the last inputs of the convolution."""
        inner = _inner(params, context.width)
        mixed = inner + 2 * params.groups * params.state
        return (params.state * inner + (params.conv - 1) * mixed) * FLOAT32_BYTES


def _inner(params: Mamba2.Params, width: int) -> int:
    """Return the features of all heads."""
    if params.head_dim is not None:
        return params.heads * params.head_dim
    return params.expand * width
