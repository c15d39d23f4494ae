"""Retention: linear attention whose heads forget at fixed rates, with positions turned in."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, component, field, float_dtype, must_divide
from hybridlab.components.rotary import rotate
from hybridlab.components.token_mixers.matrix_mixer import MatrixMixer, Sizes, Written
from hybridlab.errors import Problem

NORM_EPS = 1e-5
ROTARY_BASE = 10_000.0
FASTEST = 5
"""The first head keeps 1 - 2^-5 of its state at a step, the next 1 - 2^-6, and so on."""


@component(
    "retention",
    kind="token_mixer",
    title="Retention",
    summary="Linear attention with a fixed decay for each head: short memories beside long ones.",
    cost="linear",
    paper="https://arxiv.org/abs/2307.08621",
)
class Retention(MatrixMixer):
    """Multi-scale retention of RetNet, (B, L, D) to (B, L, D); H heads with states of K x V numbers.

    ``S_t = g S_(t-1) + k_t v_t'`` and ``o_t = q_t S_t / sqrt(K)``, with ``g = 1 - 2^(-5-h)`` for head h and queries and
    keys turned by their position (xPos, of which g is the decay). The output is ``(swish(x Wg) * norm(o)) Wo``, with a
    group norm, its groups the heads.
    """

    counts = True

    class Params(base.Params):
        """Parameters of ``retention``."""

        heads: int = field(4, help="Heads, each with its own decay.", ge=1, le=1024, search=[2, 4])
        key_dim: int | None = field(
            None, help="Features of a key; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        value_dim: int | None = field(
            None,
            help="Features of a value; empty: twice the width / heads.",
            ge=1,
            le=4096,
            unit="features",
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
        heads, key, value, _ = self.sizes(params, context.width)
        self.parts = [heads * key, heads * key, heads * value]
        self.conv = None
        self.others = [heads * value]
        self.project_in = nn.Linear(context.features, sum(self.parts + self.others), bias=False)
        self.norm_scale = nn.Parameter(torch.ones(heads * value))
        self.norm_bias = nn.Parameter(torch.zeros(heads * value))
        self.project_out = nn.Linear(heads * value, context.width, bias=False)

    @classmethod
    def sizes(cls, params: Params, width: int) -> Sizes:
        """Return the size of the memory."""
        size = width // params.heads
        return Sizes(params.heads, params.key_dim or size, params.value_dim or 2 * size)

    def written(
        self, mixed_BLM: Tensor, others: tuple[Tensor, ...], first: Tensor | int
    ) -> Written:
        """Return queries over sqrt(K) and keys, both turned, values, and the decay of each head (H)."""
        q_BLHK, k_BLHK, v_BLHV = (
            torch.unflatten(part, -1, (self.params.heads, -1))
            for part in torch.split(mixed_BLM, self.parts, dim=-1)
        )
        q_BLHK, k_BLHK = (
            rotate(part.transpose(1, 2).to(float_dtype(part)), ROTARY_BASE, first).transpose(1, 2)
            for part in (q_BLHK, k_BLHK)
        )
        heads_H = torch.arange(
            self.params.heads, device=mixed_BLM.device, dtype=float_dtype(mixed_BLM)
        )
        log_decay_H = torch.log1p(-torch.exp2(-FASTEST - heads_H))
        return Written(q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, v_BLHV, log_decay_H)

    def read_out(self, o_BLHV: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Normalise each head and gate."""
        normed_BLHV = F.layer_norm(o_BLHV, o_BLHV.shape[-1:], eps=NORM_EPS)
        scaled_BLE = normed_BLHV.flatten(2) * self.norm_scale + self.norm_bias
        return scaled_BLE * F.silu(others[0])

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide the width, or keys have no pairs to turn."""
        if params.key_dim is None or params.value_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
        key = cls.sizes(params, context.width).key
        if key % 2:
            yield Problem(
                "key_dim",
                f"positions turn pairs of features, but a key has {key}",
                "an even number",
                str(key),
                "change heads or key_dim",
            )
