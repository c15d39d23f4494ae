"""DeltaNet: a matrix state in which a key's value is replaced instead of added to."""

from __future__ import annotations

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
)
from hybridlab.errors import Problem

NORM_EPS = 1e-5


@component(
    "delta_net",
    kind="token_mixer",
    title="DeltaNet",
    summary="Replaces the value that a key recalls by a new one, so that memories do not pile up.",
    cost="linear",
    paper="https://arxiv.org/abs/2406.06484",
)
class DeltaNet(MatrixMixer):
    """DeltaNet, (B, L, D) to (B, L, D); H heads with states of K x V numbers.

    ``S_t = (I - b_t k_t k_t') S_(t-1) + b_t k_t v_t'`` and ``o_t = q_t S_t / sqrt(K)``, with queries and keys of length
    one and ``b = sigmoid(x Wb)``; queries, keys and values pass a short convolution and swish. The output is
    ``norm(o) Wo``, or with a gate ``(norm(o) * swish(x Wg)) Wo``, the norm (root mean square) per head.
    """

    class Params(base.Params):
        """Parameters of ``delta_net``."""

        heads: int = field(4, help="Heads.", ge=1, le=1024, search=[1, 2, 4, 8])
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
        gate: bool = field(False, help="Gate the output by the input.")
        negative: bool = field(
            False,
            help="Let a write count up to twice, so that states can turn their sign and track parity.",
        )
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
        """Create the maps, each with fan-in weights."""
        super().__init__(params, context)
        heads, key, value, mixed = self.sizes(params, context.width)
        self.parts = [heads * key, heads * key, heads * value]
        self.others = [heads, heads * value if params.gate else 0]
        self.project_in = nn.Linear(context.features, mixed + sum(self.others), bias=False)
        self.conv = DepthwiseConv(mixed, params.conv, bias=False) if params.conv else None
        self.norm = RootMeanSquare(value, NORM_EPS)
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
        """Return unit queries over sqrt(K), unit keys, values and betas."""
        q_BLHK, k_BLHK, v_BLHV = (
            torch.unflatten(part, -1, (self.params.heads, -1))
            for part in torch.split(
                F.silu(mixed_BLM.to(float_dtype(mixed_BLM))), self.parts, dim=-1
            )
        )
        return Written(
            unit_length(q_BLHK) * q_BLHK.shape[-1] ** -0.5,
            unit_length(k_BLHK),
            v_BLHV,
            beta=delta_gate(others[0], negative=self.params.negative),
        )

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Normalise each head and gate where asked."""
        normed_BLHV: Tensor = self.norm(o_BLHV)
        normed_BLE = normed_BLHV.flatten(2)
        return normed_BLE * F.silu(others[1]) if self.params.gate else normed_BLE

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width."""
        if params.key_dim is None or params.value_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
