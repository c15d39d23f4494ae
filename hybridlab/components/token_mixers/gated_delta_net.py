"""Gated DeltaNet: a matrix state that forgets, and that replaces what a key reads instead of adding to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, component, field, float_dtype, must_divide
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.token_mixers.matrix_memory import unit_length
from hybridlab.components.token_mixers.matrix_mixer import (
    MatrixMixer,
    Sizes,
    Written,
    delta_gate,
    input_decay,
)
from hybridlab.errors import Problem

RATE_RANGE = (0.01, 16.0)
STEP_RANGE = (1e-3, 1e-1)


@component(
    "gated_delta_net",
    kind="token_mixer",
    title="Gated DeltaNet",
    summary="Overwrites what a key recalls, and forgets as the input asks: exact recall in constant memory.",
    cost="linear",
    paper="https://arxiv.org/abs/2412.06464",
)
class GatedDeltaNet(MatrixMixer):
    """Gated DeltaNet, (B, L, D) to (B, L, D); H heads with states of K x V numbers, G groups of them share keys.

    ``S_t = exp(a_t) (I - b_t k_t k_t') S_(t-1) + b_t k_t v_t'`` and ``o_t = q_t S_t / sqrt(K)``, with queries and keys
    of length one, ``b = sigmoid(x Wb)``, ``a = - rate softplus(x Wa + bias)``; queries, keys and values pass a short
    convolution and swish. The output is ``(norm(o) * swish(x Wg)) Wo``, the norm (root mean square) per head.
    """

    class Params(base.Params):
        """Parameters of ``gated_delta_net``."""

        heads: int = field(
            4, help="Heads of values, each with its own state.", ge=1, le=1024, search=[1, 2, 4, 8]
        )
        key_heads: int | None = field(
            None,
            help="Heads of queries and keys, shared by groups of heads; empty: as many as heads.",
            ge=1,
            le=1024,
        )
        key_dim: int | None = field(
            None, help="Features of a key; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        value_dim: int | None = field(
            None, help="Features of a value; empty: width / heads.", ge=1, le=4096, unit="features"
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
            64,
            help="Positions per matrix product, rounded up to a power of two; changes speed and "
            "memory, not the result.",
            ge=8,
            le=256,
            unit="positions",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; decay rates are uniform in 0 to 16, steps log-uniform in .001 to .1."""
        super().__init__(params, context)
        heads, key, value, mixed = self.sizes(params, context.width)
        self.key_heads = params.key_heads or heads
        self.parts = [self.key_heads * key, self.key_heads * key, heads * value]
        self.others = [heads * value, heads, heads]
        self.project_in = nn.Linear(context.features, mixed + sum(self.others), bias=False)
        self.conv = DepthwiseConv(mixed, params.conv, bias=False) if params.conv else None
        self.step_bias = nn.Parameter(steps_before_softplus(heads))
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(*RATE_RANGE).log())
        self.norm = RootMeanSquare(value, params.eps)
        self.project_out = nn.Linear(heads * value, context.width, bias=False)

    @classmethod
    def sizes(cls, params: Params, width: int) -> Sizes:
        """Return the size of the memory."""
        key = params.key_dim or width // params.heads
        value = params.value_dim or width // params.heads
        mixed = 2 * (params.key_heads or params.heads) * key + params.heads * value
        return Sizes(params.heads, key, value, mixed)

    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return unit queries over sqrt(K), unit keys, values, decays (B, L, H) and betas."""
        _, beta_BLH, step_BLH = others
        heads = self.params.heads
        q, k, v = torch.split(F.silu(mixed_BLM.to(float_dtype(mixed_BLM))), self.parts, dim=-1)
        q_BLGK, k_BLGK = (
            unit_length(torch.unflatten(part, -1, (self.key_heads, -1))) for part in (q, k)
        )
        q_BLHK, k_BLHK = (
            part
            if self.key_heads == heads
            else part.repeat_interleave(heads // self.key_heads, dim=2)
            for part in (q_BLGK * q_BLGK.shape[-1] ** -0.5, k_BLGK)
        )
        return Written(
            q_BLHK,
            k_BLHK,
            torch.unflatten(v, -1, (heads, -1)),
            input_decay(step_BLH, self.step_bias, self.log_rate),
            delta_gate(beta_BLH, negative=self.params.negative),
        )

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Normalise each head and gate."""
        normed_BLHV: Tensor = self.norm(o_BLHV)
        return normed_BLHV.flatten(2) * F.silu(others[0])

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width, or the heads of keys the heads."""
        if params.key_dim is None or params.value_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
        if params.key_heads is not None:
            yield from must_divide("key_heads", params.key_heads, params.heads, "heads")


def steps_before_softplus(count: int) -> Tensor:
    """Return biases whose softplus is log-uniform in .001 to .1."""
    low, high = (math.log(bound) for bound in STEP_RANGE)
    step = torch.empty(count).uniform_(low, high).exp()
    return step + torch.log(-torch.expm1(-step))
