"""Kimi Delta Attention: the delta rule, with a forget gate for each feature of the key."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, component, field, float_dtype, must_divide
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.token_mixers.gated_delta_net import steps_before_softplus
from hybridlab.components.token_mixers.matrix_memory import unit_length
from hybridlab.components.token_mixers.matrix_mixer import (
    MatrixMixer,
    Sizes,
    Written,
    delta_gate,
    input_decay,
)
from hybridlab.errors import Problem

RATE_RANGE = (1.0, 16.0)


@component(
    "kimi_delta_attention",
    kind="token_mixer",
    title="Kimi Delta Attention",
    summary="Overwrites what a key recalls; each feature of the key forgets at its own rate.",
    cost="linear",
    paper="https://arxiv.org/abs/2510.26692",
)
class KimiDeltaAttention(MatrixMixer):
    """Kimi Delta Attention, (B, L, D) to (B, L, D); H heads with states of K x V numbers.

    ``S_t = (I - b_t k_t k_t') diag(exp(a_t)) S_(t-1) + b_t k_t v_t'`` and ``o_t = q_t S_t / sqrt(K)``, with queries and
    keys of length one, ``b = sigmoid(x Wb)`` and ``a = - rate softplus(x W1 W2 + bias)`` for each feature of the key;
    queries, keys and values pass a short convolution and swish. The output is ``(norm(o) * sigmoid(x W3 W4)) Wo``, the
    norm (root mean square) per head.
    """

    class Params(base.Params):
        """Parameters of ``kimi_delta_attention``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        key_dim: int | None = field(
            None, help="Features of a key; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        value_dim: int | None = field(
            None, help="Features of a value; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        gate_rank: int | None = field(
            None,
            help="Rank of the maps to the forget gates and to the output gate; empty: features of a value.",
            ge=1,
            le=4096,
        )
        conv: int = field(
            4,
            help="Taps of the short convolution on queries, keys and values; 0: none.",
            ge=0,
            le=64,
            unit="positions",
            search=[0, 4],
        )
        negative: bool = field(
            False,
            help="Let a write count up to twice, so that states can turn their sign and track parity.",
        )
        eps: float = field(1e-6, help="What the norm adds to the mean of squares.", gt=0, le=1e-2)
        chunk: int = field(
            32,
            help="Positions per matrix product, rounded up to a power of two; changes speed and "
            "memory, not the result.",
            ge=8,
            le=256,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; decay rates are uniform in 1 to 16, steps log-uniform in .001 to .1."""
        super().__init__(params, context)
        heads, key, value, mixed = self.sizes(params, context.width)
        rank = params.gate_rank or value
        self.parts = [heads * key, heads * key, heads * value]
        self.others = [heads, rank, rank]
        self.project_in = nn.Linear(context.features, mixed + sum(self.others), bias=False)
        self.conv = DepthwiseConv(mixed, params.conv, bias=False) if params.conv else None
        self.forget_up = nn.Linear(rank, heads * key, bias=False)
        self.step_bias = nn.Parameter(steps_before_softplus(heads * key))
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(*RATE_RANGE).log())
        self.gate_up = nn.Linear(rank, heads * value, bias=False)
        self.norm = RootMeanSquare(value, params.eps)
        self.project_out = nn.Linear(heads * value, context.width, bias=False)

    @classmethod
    def sizes(cls, params: Params, width: int) -> Sizes:
        """Return the size of the memory."""
        key = params.key_dim or width // params.heads
        value = params.value_dim or width // params.heads
        return Sizes(params.heads, key, value, params.heads * (2 * key + value))

    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return unit queries over sqrt(K), unit keys, values, decays (B, L, H, K) and betas."""
        beta_BLH, forget_BLR, _ = others
        heads = self.params.heads
        q_BLHK, k_BLHK, v_BLHV = (
            torch.unflatten(part, -1, (heads, -1))
            for part in torch.split(
                F.silu(mixed_BLM.to(float_dtype(mixed_BLM))), self.parts, dim=-1
            )
        )
        return Written(
            unit_length(q_BLHK) * q_BLHK.shape[-1] ** -0.5,
            unit_length(k_BLHK),
            v_BLHV,
            input_decay(
                torch.unflatten(self.forget_up(forget_BLR), -1, (heads, -1)),
                torch.unflatten(self.step_bias, 0, (heads, -1)),
                self.log_rate.unsqueeze(-1),
            ),
            delta_gate(beta_BLH, negative=self.params.negative),
        )

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Normalise each head and gate."""
        normed_BLHV: Tensor = self.norm(o_BLHV)
        return normed_BLHV.flatten(2) * torch.sigmoid(self.gate_up(others[2]))

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width."""
        if params.key_dim is None or params.value_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
