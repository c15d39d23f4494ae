"""Mamba-2: a selective state space whose scan is done as matrix products in chunks."""

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
    component,
    field,
    float_dtype,
    must_divide,
)
from hybridlab.components.decayed_scan import (
    SMALLEST_LOG,
    lower_decays,
    pad_to_multiple,
    states_before,
)
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.errors import Problem

STEP_RANGE = (0.001, 0.1)
DECAY_RATE_RANGE = (1.0, 16.0)
NORM_EPS = 1e-5


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
        groups: int = field(
            1, help="Groups of heads that share what is written and read.", ge=1, le=1024
        )
        conv: int = field(
            4, help="Taps of the short convolution before the scan.", ge=1, le=64, unit="positions"
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
        self.inner = params.expand * context.width
        mixed = self.inner + 2 * params.groups * params.state
        self.sizes = [self.inner, mixed, params.heads]
        self.project_in = nn.Linear(context.features, sum(self.sizes), bias=False)
        self.conv = DepthwiseConv(mixed, params.conv)
        low, high = (math.log(bound) for bound in STEP_RANGE)
        step_H = torch.empty(params.heads).uniform_(low, high).exp()
        self.step_bias = nn.Parameter(step_H + torch.log(-torch.expm1(-step_H)))
        self.log_rate = nn.Parameter(torch.empty(params.heads).uniform_(*DECAY_RATE_RANGE).log())
        self.skip = nn.Parameter(torch.ones(params.heads))
        self.norm_scale = nn.Parameter(torch.ones(self.inner))
        self.project_out = nn.Linear(self.inner, context.width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        gate_BLE, mixed_BLM, step_BLH = torch.split(self.project_in(x_BLD), self.sizes, dim=-1)
        x_BLHP, write_BLGS, read_BLGS = self._parts(self.conv(mixed_BLM))
        dt_BLH, log_decay_BLH = self._steps(step_BLH)
        y_BLHP = ssd(
            x_BLHP * dt_BLH.unsqueeze(-1).to(x_BLHP.dtype),
            log_decay_BLH,
            write_BLGS,
            read_BLGS,
            self.params.chunk,
        )
        return self._gated(y_BLHP, x_BLHP, gate_BLE)

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
        return dt_BLH, -dt_BLH * self.log_rate.to(wide).exp()

    def _gated(self, y_BLHP: Tensor, x_BLHP: Tensor, gate_BLE: Tensor) -> Tensor:
        """Add the skip, gate, normalise and project to (B, L, D)."""
        y_BLHP = torch.addcmul(y_BLHP, x_BLHP, self.skip.unsqueeze(-1).to(x_BLHP.dtype))
        gated_BLE = y_BLHP.flatten(2) * F.silu(gate_BLE)
        normed_BLE = F.rms_norm(gated_BLE, (self.inner,), self.norm_scale, NORM_EPS)
        out_BLD: Tensor = self.project_out(normed_BLE)
        return out_BLD

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
        """Yield a problem where heads do not divide the inner features, or groups the heads."""
        inner = params.expand * context.width
        yield from must_divide("heads", params.heads, inner, f"{params.expand} x width =")
        yield from must_divide("groups", params.groups, params.heads, "heads")

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A scan from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of S x E numbers and of the last inputs of the convolution."""
        inner = params.expand * context.width
        mixed = inner + 2 * params.groups * params.state
        return (params.state * inner + (params.conv - 1) * mixed) * FLOAT32_BYTES


def ssd(
    x_BLHP: Tensor, log_decay_BLH: Tensor, write_BLGS: Tensor, read_BLGS: Tensor, chunk: int
) -> Tensor:
    """Compute y_t = sum over s <= t of (C_t . B_s) exp(a_(s+1) + ... + a_t) x_s, in chunks.

    Within a chunk the sum is a masked matrix product, as in attention; what earlier chunks have left
    arrives through the state before the chunk. Decays are summed in the dtype of ``log_decay_BLH``.

    Args:
        x_BLHP: values, already multiplied by the step, (B, L, H, P).
        log_decay_BLH: a, at most 0, (B, L, H).
        write_BLGS: B (B, L, G, S), G dividing H.
        read_BLGS: C (B, L, G, S).
        chunk: positions per chunk.

    Returns:
        (B, L, H, P).
    """
    batch, length, heads, features = x_BLHP.shape
    groups = write_BLGS.shape[2]
    chunk = min(chunk, length)
    x_BncHP = pad_to_multiple(x_BLHP, chunk)
    write_BncGS = pad_to_multiple(write_BLGS, chunk)
    read_BncGS = pad_to_multiple(read_BLGS, chunk)
    total_BncH = pad_to_multiple(log_decay_BLH.clamp(min=SMALLEST_LOG), chunk).cumsum(2)
    last_BnH = total_BncH[:, :, -1]
    dtype = x_BLHP.dtype

    total_BnHc = total_BncH.transpose(2, 3)
    decays_BnHcc = lower_decays(total_BnHc, total_BnHc).to(dtype)
    scores_BnGcc = torch.einsum("bnigs,bnjgs->bngij", read_BncGS, write_BncGS)
    weights_BnHcc = _scored(scores_BnGcc, decays_BnHcc)
    within_BncHP = torch.einsum("bnhij,bnjhp->bnihp", weights_BnHcc, x_BncHP)

    to_end_BncH = (last_BnH.unsqueeze(2) - total_BncH).exp().to(dtype)
    decayed_BncGhP = torch.unflatten(x_BncHP * to_end_BncH.unsqueeze(-1), 3, (groups, -1))
    updates_BnGhSP = torch.einsum("bnjgs,bnjghp->bnghsp", write_BncGS, decayed_BncGhP)
    before_BnHV = states_before(updates_BnGhSP.flatten(2, 3).flatten(3), last_BnH)
    before_BnGhSP = before_BnHV.reshape(updates_BnGhSP.shape)
    carried_BncGhP = torch.einsum("bnigs,bnghsp->bnighp", read_BncGS, before_BnGhSP)

    from_start_BncH1 = total_BncH.exp().to(dtype).unsqueeze(-1)
    y_BncHP = torch.addcmul(within_BncHP, carried_BncGhP.flatten(3, 4), from_start_BncH1)
    return y_BncHP.reshape(batch, -1, heads, features)[:, :length]


def _scored(scores_BnGcc: Tensor, decays_BnHcc: Tensor) -> Tensor:
    """Multiply each head's decays by the scores of its group: (B, n, H, c, c)."""
    decays_BnGhcc = torch.unflatten(decays_BnHcc, 2, (scores_BnGcc.shape[2], -1))
    return (scores_BnGcc.unsqueeze(3) * decays_BnGhcc).flatten(2, 3)
