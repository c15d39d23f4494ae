"""Gated linear attention: a matrix state whose rows forget at rates that the input chooses."""

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
from hybridlab.components.decayed_scan import decayed_step
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.token_mixers.matrix_memory import recall
from hybridlab.components.token_mixers.matrix_mixer import one_hot_values
from hybridlab.errors import Problem

NORM_EPS = 1e-5


@component(
    "gated_linear_attention",
    kind="token_mixer",
    title="Gated linear attention",
    summary="Writes keys and values into a matrix that forgets, row by row, as the input asks.",
    cost="linear",
    paper="https://arxiv.org/abs/2312.06635",
)
class GatedLinearAttention(Component):
    """Gated linear attention, (B, L, D) to (B, L, D); H heads with states of K x V numbers.

    ``S_t = diag(a_t) S_(t-1) + k_t v_t`` and ``o_t = q_t S_t / sqrt(K)``, with gates
    ``a_t = sigmoid(x W1 W2 + b)^(1/tau)``; the output is ``(swish(x Wr + br) * norm(o)) Wo``, the
    norm (root mean square, as in the authors' code) per head.
    """

    class Params(base.Params):
        """Parameters of ``gated_linear_attention``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        key_ratio: float = field(
            0.5,
            help="Features of all keys together, per feature of the width.",
            gt=0,
            le=8,
            unit="x width",
            search=[0.5, 1.0],
        )
        value_ratio: float = field(
            1.0,
            help="Features of all values together, per feature of the width.",
            gt=0,
            le=8,
            unit="x width",
            search=[1.0, 2.0],
        )
        gate_rank: int = field(
            16, help="Rank of the map from the input to the forget gates.", ge=1, le=1024
        )
        tau: float = field(
            16.0, help="Temperature of the forget gates; larger forgets more slowly.", gt=0, le=1000
        )
        conv: int = field(
            0,
            help="Taps of a short convolution on queries, keys and values; 0: none.",
            ge=0,
            le=64,
            unit="positions",
            search=[0, 4],
        )
        chunk: int = field(
            64,
            help="Positions per matrix product, rounded up to a power of two; changes speed and "
            "memory, not the result.",
            ge=8,
            le=1024,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps, each with fan-in weights."""
        super().__init__(params, context)
        keys, values = _sizes(params, context.width)
        self.sizes = [keys, keys, values]
        self.project_in = nn.Linear(context.features, sum(self.sizes), bias=False)
        self.conv = DepthwiseConv(sum(self.sizes), params.conv) if params.conv else None
        self.forget_down = nn.Linear(context.features, params.gate_rank, bias=False)
        self.forget_up = nn.Linear(params.gate_rank, keys)
        self.output_gate = nn.Linear(context.features, values)
        self.norm = RootMeanSquare(values // params.heads, NORM_EPS)
        self.project_out = nn.Linear(values, context.width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        o_BLHV = recall(*self._written(x_BLD), chunk=self.params.chunk)
        return self._gated(o_BLHV, x_BLD)

    def _written(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries, keys, values and log decays, (B, L, H, K) or (B, L, H, V)."""
        projected_BLP = self.project_in(x_BLD)
        if self.conv is not None:
            projected_BLP = self.conv(projected_BLP)
        return *self._heads(projected_BLP), self._log_decay(x_BLD)

    def mixing_matrix(self, *inputs: Tensor) -> Tensor:
        """Return the matrices (B, H, L, L) of writing, forgetting and reading: what is read of one-hot values."""
        q_BLHK, k_BLHK, v_BLHV, log_decay_BLHK = self._written(*inputs)
        chunk = self.params.chunk
        ones_BLHL = one_hot_values(v_BLHV)
        return recall(q_BLHK, k_BLHK, ones_BLHL, log_decay_BLHK, chunk=chunk).transpose(1, 2)

    def _heads(self, projected_BLP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (B, L, P) into queries over sqrt(K), keys (B, L, H, K) and values (B, L, H, V)."""
        q, k, v = (
            torch.unflatten(part, -1, (self.params.heads, -1))
            for part in torch.split(projected_BLP, self.sizes, dim=-1)
        )
        return q * q.shape[-1] ** -0.5, k, v

    def _log_decay(self, x_BLD: Tensor) -> Tensor:
        """Return the log of the forget gates (B, L, H, K), at most 0, in float32 or better."""
        logits_BLP = self.forget_up(self.forget_down(x_BLD))
        log_decay_BLP = F.logsigmoid(logits_BLP.to(float_dtype(logits_BLP))) / self.params.tau
        return torch.unflatten(log_decay_BLP, -1, (self.params.heads, -1))

    def _gated(self, o_BLHV: Tensor, x_BLD: Tensor) -> Tensor:
        """Normalise each head, gate and project to (B, L, D)."""
        gated_BLE = self.norm(o_BLHV).flatten(2) * F.silu(self.output_gate(x_BLD))
        out_BLD: Tensor = self.project_out(gated_BLE.to(self.project_out.weight.dtype))
        return out_BLD

    def start(self, batch: int) -> State:
        """Return the states (B, H, K, V) and, where there is one, the convolution's last inputs, zeros."""
        keys, _, values = self.sizes
        sizes = (batch, self.params.heads, keys // self.params.heads, values // self.params.heads)
        weight = self.project_in.weight
        state_BHKV = weight.new_zeros(sizes, dtype=float_dtype(weight))
        return (state_BHKV,) if self.conv is None else (state_BHKV, self.conv.start(batch))

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        state_BHKV, *before = state
        projected_BP = self.project_in(x_BD)
        if self.conv is not None:
            projected_BP, before[0] = self.conv.step(before[0], projected_BP)
        q_B1HK, k_B1HK, v_B1HV = self._heads(projected_BP.unsqueeze(1))
        x_B1D = x_BD.unsqueeze(1)
        parts = (part.squeeze(1) for part in (q_B1HK, k_B1HK, v_B1HV, self._log_decay(x_B1D)))
        o_BHV, state_BHKV = decayed_step(state_BHKV, *parts)
        return self._gated(o_BHV.unsqueeze(1), x_B1D).squeeze(1), (state_BHKV, *before)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper."""
        (x_BLD,) = inputs
        projected_BLP = self.project_in(x_BLD)
        if self.conv is not None:
            projected_BLP = self.conv.reference(projected_BLP)
        q_BLHK, k_BLHK, v_BLHV = self._heads(projected_BLP)
        gates_BLHK = self._log_decay(x_BLD).exp()
        state_BHKV = q_BLHK.new_zeros(
            x_BLD.shape[0], self.params.heads, q_BLHK.shape[-1], v_BLHV.shape[-1]
        )
        rows_BHV = []
        for q_BHK, k_BHK, v_BHV, gate_BHK in zip(
            q_BLHK.unbind(1), k_BLHK.unbind(1), v_BLHV.unbind(1), gates_BLHK.unbind(1), strict=True
        ):
            written_BHKV = k_BHK.unsqueeze(-1) * v_BHV.unsqueeze(-2)
            state_BHKV = gate_BHK.unsqueeze(-1) * state_BHKV + written_BHKV
            rows_BHV.append((q_BHK.unsqueeze(-1) * state_BHKV).sum(-2))
        return self._gated(torch.stack(rows_BHV, 1), x_BLD)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the keys' or the values' features."""
        keys, values = _sizes(params, context.width)
        yield from must_divide("heads", params.heads, keys, "the keys' features,")
        yield from must_divide("heads", params.heads, values, "the values' features,")

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of H x K x V numbers and of the last inputs of the convolution."""
        keys, values = _sizes(params, context.width)
        conv_numbers = max(0, params.conv - 1) * (2 * keys + values)
        return (keys * values / params.heads + conv_numbers) * FLOAT32_BYTES


def _sizes(params: GatedLinearAttention.Params, width: int) -> tuple[int, int]:
    """Return the features of all keys and of all values."""
    return max(1, round(params.key_ratio * width)), max(1, round(params.value_ratio * width))
