"""sLSTM: xLSTM's scalar memory, an LSTM with an exponential input gate and a normaliser."""

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
from hybridlab.components.head_norm import HeadNorm, not_single
from hybridlab.components.token_mixers.slstm_scan import NEVER, empty_cell, slstm, slstm_step
from hybridlab.errors import Problem

NORM_EPS = 1e-5
FORGET_BIASES = (3.0, 6.0)
"""Forget gates start nearly open, spread over the features of a head between these."""


@component(
    "slstm",
    kind="token_mixer",
    title="sLSTM",
    summary="xLSTM's scalar memory: an LSTM that can revise what it stored; tracks state, position by position.",
    cost="linear",
    paper="https://arxiv.org/abs/2405.04517",
)
class SLSTM(Component):
    """The sLSTM layer of xLSTM, (B, L, D) to (B, L, D); H heads of P features, H P = D.

    ``c_t = f_t c_(t-1) + i_t z_t``, ``n_t = f_t n_(t-1) + i_t``, ``h_t = o_t c_t / n_t`` with
    ``i = exp(.)``, ``f = o = sigmoid(.)``, ``z = tanh(.)``; each gate reads the input and, through a
    matrix of its head, h_(t-1). The gates i and f see the input after a short convolution. What comes
    out is the layer norm of each head's h, as in the authors' code: no map out.
    """

    class Params(base.Params):
        """Parameters of ``slstm``."""

        heads: int = field(
            4,
            help="Heads; the recurrence mixes features within a head only.",
            ge=1,
            le=1024,
            search=[1, 2, 4, 8],
        )
        conv: int = field(
            4,
            help="Taps of a short convolution before the input and forget gates; 0: none.",
            ge=0,
            le=64,
            unit="positions",
            search=[0, 4],
        )

    params: Params
    recurrent_trace = True
    loops = (
        "Each gate reads the output of the position before through a matrix: time is sequential."
    )
    graph_break = "The loop over time stays in Python; a compiler would unroll every position."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps, all of them with fan-in weights."""
        super().__init__(params, context)
        heads, features = params.heads, context.width // params.heads
        self.conv = DepthwiseConv(context.features, params.conv) if params.conv else None
        self.write_and_forget = nn.Linear(context.features, 2 * context.width, bias=False)
        self.value_and_output = nn.Linear(context.features, 2 * context.width, bias=False)
        bound = 1 / math.sqrt(features)
        recurrent_HPGP = torch.empty(heads, features, 4, features).uniform_(-bound, bound)
        self.recurrent = nn.Parameter(recurrent_HPGP)
        bias_GHP = torch.zeros(4, heads, features)
        bias_GHP[1] = torch.linspace(*FORGET_BIASES, features)
        self.bias = nn.Parameter(bias_GHP.flatten())
        self.norm = HeadNorm(context.width, NORM_EPS, shift=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        smooth_BLD = x_BLD if self.conv is None else F.silu(self.conv(x_BLD))
        inputs_BLGHP = self._inputs(x_BLD, smooth_BLD)
        h_BLHP = slstm(inputs_BLGHP, self.recurrent.to(inputs_BLGHP.dtype))
        return self.norm(h_BLHP.to(x_BLD.dtype))  # type: ignore[no-any-return]

    def _inputs(self, x: Tensor, smooth: Tensor) -> Tensor:
        """Return the inputs' part of the gates (..., 4, H, P), in float32 or better."""
        flat = torch.cat((self.write_and_forget(smooth), self.value_and_output(x)), dim=-1)
        gates = flat.to(float_dtype(flat)) + self.bias
        return torch.unflatten(gates, -1, (4, self.params.heads, -1))

    def start(self, batch: int) -> State:
        """Return c, n, m and h (B, H, P), and the convolution's last inputs where there is one."""
        heads, features = self.recurrent.shape[:2]
        wide = float_dtype(self.recurrent)
        like_BHP = self.recurrent.new_empty(batch, heads, features, dtype=wide)
        cell = empty_cell(like_BHP)
        return cell if self.conv is None else (*cell, self.conv.start(batch))

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        c, n, m, h, *before = state
        smooth_BD = x_BD
        if self.conv is not None:
            smooth_BD, before[0] = self.conv.step(before[0], x_BD)
            smooth_BD = F.silu(smooth_BD)
        inputs_BGHP = self._inputs(x_BD, smooth_BD).to(c.dtype)
        matrix_HPQ = self.recurrent.to(c.dtype).flatten(2)
        cell, _ = slstm_step((c, n, m, h), inputs_BGHP, matrix_HPQ)
        return self.norm(cell[3].to(x_BD.dtype)), (*cell, *before)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the stabilised equations of the paper, head by head."""
        (x_BLD,) = inputs
        smooth_BLD = x_BLD
        if self.conv is not None:
            smooth_BLD = self.conv.reference(x_BLD)
            smooth_BLD = smooth_BLD * smooth_BLD.sigmoid()
        inputs_BLGHP = self._inputs(x_BLD, smooth_BLD)
        outputs_BLP = []
        for head, recurrent_PGP in enumerate(self.recurrent.unbind(0)):
            c = n = h = torch.zeros_like(inputs_BLGHP[:, 0, 0, head])
            m = c + NEVER
            rows_BP = []
            for inputs_BGP in inputs_BLGHP[..., head, :].unbind(1):
                gates_BGP = inputs_BGP + torch.einsum("bp,pgq->bgq", h, recurrent_PGP)
                write, forget, z, o = gates_BGP.unbind(1)
                log_forget = -F.softplus(-forget)
                before, m = m, torch.maximum(log_forget + m, write)
                kept, written = (log_forget + before - m).exp(), (write - m).exp()
                c, n = kept * c + written * z.tanh(), kept * n + written
                h = o.sigmoid() * c / n
                rows_BP.append(h)
            outputs_BLP.append(torch.stack(rows_BP, 1))
        h_BLHP = torch.stack(outputs_BLP, 2)
        centred_BLHP = h_BLHP - h_BLHP.mean(-1, keepdim=True)
        variance_BLH1 = centred_BLHP.square().mean(-1, keepdim=True)
        return (centred_BLHP / (variance_BLH1 + NORM_EPS).sqrt()).flatten(2) * self.norm.scale

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
        """Return the bytes of c, n, m and h, and of the last inputs of the convolution."""
        conv_numbers = max(0, params.conv - 1) * context.features
        return (4 * context.width + conv_numbers) * FLOAT32_BYTES
