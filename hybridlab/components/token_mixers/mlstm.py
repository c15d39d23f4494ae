"""mLSTM: the matrix memory of xLSTM, written through an exponential gate."""

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
from hybridlab.components.token_mixers.mlstm_chunks import EPS, mlstm, normalised
from hybridlab.errors import Problem

FORGET_BIASES = (3.0, 6.0)
"""Forget gates start nearly open, from head to head between these, as the authors have them."""


@component(
    "mlstm",
    kind="token_mixer",
    title="mLSTM",
    summary="xLSTM's matrix memory: an exponential gate lets a late, important input outweigh all before it.",
    cost="linear",
    paper="https://arxiv.org/abs/2405.04517",
)
class MLSTM(Component):
    """The mLSTM layer of xLSTM, (B, L, D) to (B, L, D); H heads with states of K x V + K + 1 numbers.

    ``C_t = f_t C_(t-1) + i_t v_t k_t`` and ``n_t = f_t n_(t-1) + i_t k_t`` with ``i = exp(.)`` and
    ``f = sigmoid(.)``; ``h_t = C_t q_t / max(|n_t q_t|, 1)``; the output is
    ``(sigmoid(x Wo) * norm(h)) W``, a layer norm per head. The layer of xLSTM-7B
    (https://arxiv.org/abs/2503.13427): no convolution, and gates capped softly.
    """

    class Params(base.Params):
        """Parameters of ``mlstm``."""

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
        gate_cap: float | None = field(
            15.0,
            help="What goes into a gate stays softly within plus and minus this; empty: no cap.",
            gt=0,
            le=1000,
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
        """Create the maps with fan-in weights; input gates start near one, forget gates open."""
        super().__init__(params, context)
        keys, values = _sizes(params, context.width)
        self.sizes = [keys, keys, values, values]
        self.project_in = nn.Linear(context.features, sum(self.sizes), bias=False)
        self.gates = nn.Linear(context.features, 2 * params.heads)
        with torch.no_grad():
            self.gates.bias[: params.heads].normal_(std=0.1)
            self.gates.bias[params.heads :] = torch.linspace(*FORGET_BIASES, params.heads)
        self.norm = HeadNorm(values, EPS, shift=False)
        self.project_out = nn.Linear(values, context.width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        q_BLHK, k_BLHK, v_BLHV, output_BLE = self._heads(x_BLD)
        write_BLH, log_forget_BLH = self._gates(x_BLD)
        with torch.autocast(x_BLD.device.type, enabled=False):
            h_BLHV = mlstm(q_BLHK, k_BLHK, v_BLHV, write_BLH, log_forget_BLH, self.params.chunk)
        return self._gated(h_BLHV, output_BLE)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries over sqrt(K), keys (..., H, K), values (..., H, V) and what opens the output."""
        *parts, output = torch.split(self.project_in(x), self.sizes, dim=-1)
        q, k, v = (torch.unflatten(part, -1, (self.params.heads, -1)) for part in parts)
        return q * q.shape[-1] ** -0.5, k, v, output

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logs of the input and of the forget gates (..., H), in float32 or better."""
        logits = self.gates(x)
        logits = logits.to(float_dtype(logits))
        if self.params.gate_cap is not None:
            logits = self.params.gate_cap * (logits / self.params.gate_cap).tanh()
        write, forget = logits.chunk(2, dim=-1)
        return write, F.logsigmoid(forget)

    def _gated(self, h: Tensor, output: Tensor) -> Tensor:
        """Normalise each head, gate and project to (..., D)."""
        y: Tensor = self.project_out(output.sigmoid() * self.norm(h).to(output.dtype))
        return y

    def start(self, batch: int) -> State:
        """Return C with n as its last column (B, H, K, V + 1), and m (B, H), zeros."""
        heads, (keys, _, values, _) = self.params.heads, self.sizes
        weight = self.project_in.weight
        wide = float_dtype(weight)
        sizes = (batch, heads, keys // heads, values // heads + 1)
        return weight.new_zeros(sizes, dtype=wide), weight.new_zeros(batch, heads, dtype=wide)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        c_BHKV, m_BH = state
        q_BHK, k_BHK, v_BHV, output_BE = self._heads(x_BD)
        write_BH, log_forget_BH = (part.to(m_BH.dtype) for part in self._gates(x_BD))
        kept_BH = log_forget_BH + m_BH
        m_BH = torch.maximum(kept_BH, write_BH)
        q_BHK, k_BHK, v1_BHV = (
            part.to(m_BH.dtype) for part in (q_BHK, k_BHK, F.pad(v_BHV, (0, 1), value=1.0))
        )
        written_BHK = k_BHK * (write_BH - m_BH).exp().unsqueeze(-1)
        c_BHKV = c_BHKV * (kept_BH - m_BH).exp()[..., None, None]
        c_BHKV = torch.addcmul(c_BHKV, written_BHK.unsqueeze(-1), v1_BHV.unsqueeze(-2))
        h_BHV = normalised((q_BHK.unsqueeze(-2) @ c_BHKV).squeeze(-2), m_BH)
        return self._gated(h_BHV, output_BE), (c_BHKV, m_BH)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the stabilised recurrence of the paper."""
        (x_BLD,) = inputs
        q_BLHK, k_BLHK, v_BLHV, output_BLE = self._heads(x_BLD)
        write_BLH, log_forget_BLH = self._gates(x_BLD)
        m_BH = torch.zeros_like(write_BLH.unbind(1)[0])
        n_BHK = torch.zeros_like(k_BLHK.unbind(1)[0])
        c_BHVK = n_BHK.unsqueeze(-2) * v_BLHV.unbind(1)[0].unsqueeze(-1)
        rows_BHV = []
        for q_BHK, k_BHK, v_BHV, write_BH, log_forget_BH in zip(
            *(part.unbind(1) for part in (q_BLHK, k_BLHK, v_BLHV, write_BLH, log_forget_BLH)),
            strict=True,
        ):
            before_BH, m_BH = m_BH, torch.maximum(log_forget_BH + m_BH, write_BH)
            forget_BH1 = (log_forget_BH + before_BH - m_BH).exp().unsqueeze(-1)
            write_BH1 = (write_BH - m_BH).exp().unsqueeze(-1)
            n_BHK = forget_BH1 * n_BHK + write_BH1 * k_BHK
            written_BHVK = write_BH1.unsqueeze(-1) * v_BHV.unsqueeze(-1) * k_BHK.unsqueeze(-2)
            c_BHVK = forget_BH1.unsqueeze(-1) * c_BHVK + written_BHVK
            read_BHV = (c_BHVK * q_BHK.unsqueeze(-2)).sum(-1)
            below_BH = torch.maximum((n_BHK * q_BHK).sum(-1).abs(), (-m_BH).exp()) + EPS
            rows_BHV.append(read_BHV / below_BH.unsqueeze(-1))
        h_BLHV = torch.stack(rows_BHV, 1)
        centred_BLHV = h_BLHV - h_BLHV.mean(-1, keepdim=True)
        variance_BLH1 = centred_BLHV.square().mean(-1, keepdim=True)
        normed_BLE = (centred_BLHV / (variance_BLH1 + EPS).sqrt()).flatten(2) * self.norm.scale
        return (normed_BLE / (1 + (-output_BLE).exp())) @ self.project_out.weight.T

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the keys' or the values' features."""
        keys, values = _sizes(params, context.width)
        yield from must_divide("heads", params.heads, keys, "the keys' features,")
        yield from must_divide("heads", params.heads, values, "the values' features,")
        yield from not_single("heads", params.heads, values)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of H x (K x V + K + 1) numbers."""
        keys, values = _sizes(params, context.width)
        return (keys * values / params.heads + keys + params.heads) * FLOAT32_BYTES


def _sizes(params: MLSTM.Params, width: int) -> tuple[int, int]:
    """Return the features of all keys and of all values."""
    return max(1, round(params.key_ratio * width)), max(1, round(params.value_ratio * width))
