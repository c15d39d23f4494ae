"""Softmax attention: full or sliding window, with grouped key-value heads and rotary positions."""

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
    must_divide,
)
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.rotary import rotate
from hybridlab.components.token_mixers.sliding_window import window_attention
from hybridlab.errors import CannotStep, Problem


@component(
    "attention",
    kind="token_mixer",
    title="Attention",
    summary="Every position looks at all earlier ones (or a window) and takes what matches.",
    cost="quadratic",
    paper="https://arxiv.org/abs/1706.03762",
)
class Attention(Component):
    """Multi-head softmax attention, (B, L, D) to (B, L, D).

    H query heads share G key-value heads (grouped queries, https://arxiv.org/abs/2305.13245).
    Rotary positions: https://arxiv.org/abs/2104.09864. A short convolution on queries, keys and
    values, as linear-attention models have, lets one layer see pairs of neighbours. A window makes
    the cost linear: it runs in blocks once the sequence is longer than two windows.
    """

    class Params(base.Params):
        """Parameters of ``attention``."""

        heads: int = field(4, help="Query heads.", ge=1, le=1024, search=[1, 2, 4, 8])
        kv_heads: int | None = field(
            None,
            help="Key and value heads, shared by groups of query heads; empty: as many as heads.",
            ge=1,
            le=1024,
            search=[1, 2, 4],
        )
        head_dim: int | None = field(
            None, help="Features of a head; empty: width / heads.", ge=1, le=4096, unit="features"
        )
        window: int | None = field(
            None,
            help="Positions a query sees, itself included (to each side where not causal); "
            "empty: all.",
            ge=1,
            le=1_048_576,
            unit="positions",
            search=[16, 64, 256],
        )
        causal: bool = field(True, help="Hide later positions; off for images and encoders.")
        rotary: bool = field(True, help="Turn queries and keys by their position.")
        rotary_base: float = field(
            10_000.0,
            help="Base of the rotary wavelengths; larger for long sequences.",
            gt=1,
            le=1e9,
        )
        qk_norm: bool = field(False, help="Normalise queries and keys per head; steadies training.")
        conv: int = field(
            0,
            help="Taps of a short convolution on queries, keys and values; 0: none.",
            ge=0,
            le=64,
            unit="positions",
            search=[0, 4],
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create one projection in (queries, keys, values) and one out."""
        super().__init__(params, context)
        self.heads = params.heads
        self.kv_heads = params.kv_heads or params.heads
        self.head_dim = params.head_dim or context.width // params.heads
        projected = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.project_in = nn.Linear(context.features, projected, bias=False)
        self.project_out = nn.Linear(self.heads * self.head_dim, context.width, bias=False)
        self.conv = (
            DepthwiseConv(projected, params.conv, causal=params.causal) if params.conv else None
        )
        self.query_norm = RootMeanSquare(self.head_dim) if params.qk_norm else nn.Identity()
        self.key_norm = RootMeanSquare(self.head_dim) if params.qk_norm else nn.Identity()

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        projected_BLP = self.project_in(x_BLD)
        if self.conv is not None:
            projected_BLP = self.conv(projected_BLP)
        q_BHLK, k_BGLK, v_BGLK = self._heads(projected_BLP)
        if self.params.rotary:
            q_BHLK = rotate(q_BHLK, self.params.rotary_base)
            k_BGLK = rotate(k_BGLK, self.params.rotary_base)
        if self.params.window is None:
            y_BHLK = F.scaled_dot_product_attention(
                q_BHLK,
                k_BGLK,
                v_BGLK,
                is_causal=self.params.causal,
                enable_gqa=self.kv_heads != self.heads,
            )
        else:
            y_BHLK = window_attention(
                q_BHLK, k_BGLK, v_BGLK, self.params.window, causal=self.params.causal
            )
        y_BLD: Tensor = self.project_out(y_BHLK.transpose(1, 2).flatten(2))
        return y_BLD

    def start(self, batch: int) -> State:
        """Return the position, an empty KV cache (B, G, 0, K) twice and the convolution's last inputs."""
        weight = self.project_in.weight
        cache_BGSK = weight.new_zeros(batch, self.kv_heads, 0, self.head_dim)
        position = torch.zeros((), dtype=torch.int64, device=weight.device)
        before = () if self.conv is None else (self.conv.start(batch),)
        return position, cache_BGSK, cache_BGSK, *before

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D): append its key and value to the cache and look at all of it.

        Raises:
            CannotStep: not causal.
        """
        if not self.params.causal:
            raise CannotStep("attention that looks ahead cannot run one position at a time")
        (x_BD,) = inputs_BD
        position, keys_BGSK, values_BGSK, *before = state
        projected_BP = self.project_in(x_BD)
        if self.conv is not None:
            projected_BP, before[0] = self.conv.step(before[0], projected_BP)
        q_BH1K, k_BG1K, v_BG1K = self._heads(projected_BP.unsqueeze(1))
        if self.params.rotary:
            q_BH1K = rotate(q_BH1K, self.params.rotary_base, position)
            k_BG1K = rotate(k_BG1K, self.params.rotary_base, position)
        kept = slice(1 - self.params.window if self.params.window else None, None)
        if self.params.window == 1:
            kept = slice(0, 0)
        keys_BGSK = torch.cat((keys_BGSK[:, :, kept], k_BG1K), dim=2)
        values_BGSK = torch.cat((values_BGSK[:, :, kept], v_BG1K), dim=2)
        y_BH1K = F.scaled_dot_product_attention(
            q_BH1K, keys_BGSK, values_BGSK, enable_gqa=self.kv_heads != self.heads
        )
        y_BD: Tensor = self.project_out(y_BH1K.transpose(1, 2).flatten(1))
        return y_BD, (position + 1, keys_BGSK, values_BGSK, *before)

    def _heads(self, projected_BLP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (B, L, P) into normed queries (B, H, L, K), keys and values (B, G, L, K)."""
        all_BALK = torch.unflatten(projected_BLP, -1, (-1, self.head_dim)).transpose(1, 2)
        q_BHLK, k_BGLK, v_BGLK = torch.split(
            all_BALK, [self.heads, self.kv_heads, self.kv_heads], dim=1
        )
        return self.query_norm(q_BHLK), self.key_norm(k_BGLK), v_BGLK

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute softmax(q k / sqrt(K)) v query by query, rotations as complex numbers."""
        (x_BLD,) = inputs
        projected_BLP = self.project_in(x_BLD)
        if self.conv is not None:
            projected_BLP = self.conv.reference(projected_BLP)
        q_BHLK, k_BGLK, v_BGLK = self._heads(projected_BLP)
        if self.params.rotary:
            q_BHLK, k_BGLK = self._turn(q_BHLK), self._turn(k_BGLK)
        group = self.heads // self.kv_heads
        k_BHLK = torch.stack([k for k in k_BGLK.unbind(1) for _ in range(group)], 1)
        v_BHLK = torch.stack([v for v in v_BGLK.unbind(1) for _ in range(group)], 1)
        length, window = x_BLD.shape[1], self.params.window or x_BLD.shape[1]
        rows_BHK = []
        for t, q_BHK in enumerate(q_BHLK.unbind(2)):
            first = max(0, t - window + 1)
            last = t if self.params.causal else min(length - 1, t + window - 1)
            keys_BHSK = k_BHLK[:, :, first : last + 1]
            values_BHSK = v_BHLK[:, :, first : last + 1]
            scores_BHS = (keys_BHSK * q_BHK.unsqueeze(2)).sum(-1) / math.sqrt(self.head_dim)
            weights_BHS1 = scores_BHS.softmax(-1).unsqueeze(-1)
            rows_BHK.append((weights_BHS1 * values_BHSK).sum(2))
        y_BLD: Tensor = self.project_out(torch.stack(rows_BHK, 1).flatten(2))
        return y_BLD

    def _turn(self, x_BHLK: Tensor) -> Tensor:
        """Rotate by multiplying pairs, as complex numbers, with exp(i m theta)."""
        real_BHLR, imaginary_BHLR = x_BHLK.chunk(2, dim=-1)
        half, length = real_BHLR.shape[-1], x_BHLK.shape[2]
        theta_R = torch.tensor([self.params.rotary_base ** (-r / half) for r in range(half)])
        angle_LR = (torch.arange(length)[:, None] * theta_R).to(x_BHLK)
        turned_BHLR = torch.complex(real_BHLR, imaginary_BHLR) * torch.polar(
            torch.ones_like(angle_LR), angle_LR
        )
        return torch.cat((turned_BHLR.real, turned_BHLR.imag), dim=-1)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide, or rotary meets an odd head size."""
        if params.head_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
        if params.kv_heads is not None:
            yield from must_divide("kv_heads", params.kv_heads, params.heads, "heads")
        size = params.head_dim or context.width // params.heads
        if params.rotary and size % 2:
            yield Problem(
                "head_dim" if params.head_dim else "heads",
                f"rotary positions turn pairs of features, but a head has {size}",
                "an even head size",
                str(size),
                "set rotary: false, or change heads or head_dim",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def _cache_bytes(cls, params: Params, context: BuildContext) -> float:
        size = params.head_dim or context.width // params.heads
        return 2 * (params.kv_heads or params.heads) * size * FLOAT32_BYTES

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return a key and a value for each key-value head; 0 with a window, whose cache is fixed."""
        return 0.0 if params.window else cls._cache_bytes(params, context)

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the cache of a full window, and the last inputs of the convolution."""
        size = params.head_dim or context.width // params.heads
        projected = (params.heads + 2 * (params.kv_heads or params.heads)) * size
        conv_bytes = max(0, params.conv - 1) * projected * FLOAT32_BYTES
        return (params.window or 0) * cls._cache_bytes(params, context) + conv_bytes
