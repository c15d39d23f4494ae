"""Differential attention: the difference of two attention maps, so that what both look at cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
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
from hybridlab.components.growing import appended
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.rotary import RotaryParams, rotary_problems, turned
from hybridlab.components.token_mixers.naive_attention import attend_row_by_row, turned_as_complex
from hybridlab.components.token_mixers.softmax_attention import attend
from hybridlab.errors import Problem, StepError

LAMBDA_STD = 0.1


class _DifferentialParams(base.Params):
    heads: int = field(
        2,
        help="Heads, each with two maps and values of twice the size: half as many as of attention.",
        ge=1,
        le=1024,
        search=[1, 2, 4],
    )
    kv_heads: int | None = field(
        None,
        help="Key and value heads, shared by groups of heads; empty: as many as heads.",
        ge=1,
        le=1024,
        search=[1, 2, 4],
    )
    head_dim: int | None = field(
        None,
        help="Features of a query; empty: width / (2 x heads).",
        ge=1,
        le=4096,
        unit="features",
    )
    causal: bool = field(True, help="Hide later positions; off for images and encoders.")


@component(
    "differential_attention",
    kind="token_mixer",
    title="Differential attention",
    summary="Takes a second attention map away from the first, so that noise in both cancels.",
    cost="quadratic",
    paper="https://arxiv.org/abs/2410.05258",
)
class DifferentialAttention(Component):
    """``(softmax(q1 k1) - lambda softmax(q2 k2)) v`` per head, (B, L, D) to (B, L, D).

    ``lambda = exp(a1 b1) - exp(a2 b2) + start`` with learned vectors; each head's result is normalised and
    multiplied with 1 - start. Of H heads, queries are laid out as H first ones and H second ones, so are
    keys and the halves of values.
    """

    class Params(RotaryParams, _DifferentialParams):
        """Parameters of ``differential_attention``."""

        lambda_start: float = field(
            0.2,
            help="Share of the second map at the start; the paper's is 0.8 - 0.6 exp(-0.3 (l - 1)) in "
            "layer l.",
            ge=0,
            lt=1,
            search=[0.2, 0.5, 0.8],
        )
        norm_eps: float = field(
            1e-5, help="Added to the mean square before the root in the norm.", gt=0, le=0.1
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; the vectors behind lambda start with a standard deviation of 0.1."""
        super().__init__(params, context)
        self.heads, self.kv_heads = params.heads, params.kv_heads or params.heads
        self.head_dim = _head_size(params, context.width)
        values = 2 * self.heads * self.head_dim
        keys = 2 * self.kv_heads * self.head_dim
        self.project_in = nn.Linear(context.features, values + 2 * keys, bias=False)
        self.project_out = nn.Linear(values, context.width, bias=False)
        self.norm = RootMeanSquare(2 * self.head_dim, params.norm_eps)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(torch.randn(self.head_dim) * LAMBDA_STD) for _ in range(4)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        q_BXLK, k_BYLK, v_BGLV = self._heads(x_BLD)
        q_BXLK, k_BYLK = turned(q_BXLK, self.params), turned(k_BYLK, self.params)
        return self._difference(attend, q_BXLK, k_BYLK, v_BGLV, causal=self.params.causal)

    def _heads(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, 2H, L, K) and keys (B, 2G, L, K), first ones first, and values (B, G, L, 2K)."""
        counts = [2 * self.heads, 2 * self.kv_heads, 2 * self.kv_heads]
        all_BLAK = torch.unflatten(self.project_in(x_BLD), -1, (-1, self.head_dim))
        q_BXLK, k_BYLK, v_BYLK = torch.split(all_BLAK.transpose(1, 2), counts, dim=1)
        return q_BXLK, k_BYLK, torch.cat(v_BYLK.chunk(2, dim=1), dim=-1)

    def _lambda(self) -> Tensor:
        """Return the share of the second map, in float32 or better."""
        q1, k1, q2, k2 = (
            vector.to(float_dtype(vector))
            for vector in (self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2)
        )
        return (q1 * k1).sum().exp() - (q2 * k2).sum().exp() + self.params.lambda_start

    def _difference(self, form: Callable[..., Tensor], *q_k_v: Tensor, causal: bool) -> Tensor:
        """Attend with both maps, subtract, normalise each head and project to (B, L, D)."""
        q_BXLK, k_BYSK, v_BGSV = q_k_v
        both_BXLV = form(q_BXLK, k_BYSK, v_BGSV.repeat(1, 2, 1, 1), causal=causal)
        # Wide, since much of the two cancels and the norm makes what is left large again.
        first_BHLV, second_BHLV = both_BXLV.to(float_dtype(both_BXLV)).chunk(2, dim=1)
        y_BHLV = first_BHLV - self._lambda() * second_BHLV
        normed_BHLV = self.norm(y_BHLV).to(both_BXLV.dtype) * (1 - self.params.lambda_start)
        out_BLD: Tensor = self.project_out(normed_BHLV.transpose(1, 2).flatten(2))
        return out_BLD

    def start(self, batch: int) -> State:
        """Return the position and empty caches of keys (B, 2G, 0, K) and values (B, G, 0, 2K)."""
        weight, size = self.project_in.weight, self.head_dim
        position = torch.zeros((), dtype=torch.int64, device=weight.device)
        keys_BYSK = weight.new_zeros(batch, 2 * self.kv_heads, 0, size)
        return position, keys_BYSK, weight.new_zeros(batch, self.kv_heads, 0, 2 * size)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D).

        Raises:
            StepError: not causal.
        """
        if not self.params.causal:
            raise StepError("attention that looks ahead cannot run one position at a time")
        (x_BD,) = inputs_BD
        position, keys_BYSK, values_BGSV = state
        q_BX1K, k_BY1K, v_BG1V = self._heads(x_BD.unsqueeze(1))
        q_BX1K = turned(q_BX1K, self.params, position)
        keys_BYSK = appended(keys_BYSK, turned(k_BY1K, self.params, position), dim=2)
        values_BGSV = appended(values_BGSV, v_BG1V, dim=2)
        y_B1D = self._difference(attend, q_BX1K, keys_BYSK, values_BGSV, causal=False)
        return y_B1D.squeeze(1), (position + 1, keys_BYSK, values_BGSV)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute each head's two maps on their own, query by query."""
        (x_BLD,) = inputs
        q_BXLK, k_BYLK, v_BGLV = self._heads(x_BLD)
        q_BXLK, k_BYLK = (turned_as_complex(x, self.params) for x in (q_BXLK, k_BYLK))
        causal = self.params.causal
        first_BHLV, second_BHLV = (
            attend_row_by_row(q_BHLK, k_BGLK, v_BGLV, causal=causal)
            for q_BHLK, k_BGLK in zip(q_BXLK.chunk(2, 1), k_BYLK.chunk(2, 1), strict=True)
        )
        y_BHLV = first_BHLV - self._lambda() * second_BHLV
        mean_square_BHL1 = y_BHLV.square().mean(-1, keepdim=True)
        normed_BHLV = y_BHLV / (mean_square_BHL1 + self.params.norm_eps).sqrt() * self.norm.scale
        scaled_BHLV = normed_BHLV * (1 - self.params.lambda_start)
        heads_BLV = torch.cat(scaled_BHLV.unbind(1), dim=-1)
        out_BLD: Tensor = self.project_out(heads_BLV)
        return out_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide, or rotary meets an odd query size."""
        if params.head_dim is None:
            half = f"half the width {context.width}:"
            yield from must_divide("heads", params.heads, context.width // 2, half)
        if params.kv_heads is not None:
            yield from must_divide("kv_heads", params.kv_heads, params.heads, "heads")
        yield from rotary_problems(params)
        size = _head_size(params, context.width)
        if params.rotary and size % 2:
            yield Problem(
                "head_dim" if params.head_dim else "heads",
                f"rotary positions turn pairs of features, but a query has {size}",
                "an even size",
                str(size),
                "set rotary: false, or change heads or head_dim",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return two keys and a value of twice their size for each key-value head."""
        size = _head_size(params, context.width)
        return 4 * (params.kv_heads or params.heads) * size * FLOAT32_BYTES


def _head_size(params: DifferentialAttention.Params, width: int) -> int:
    """Return the features of a query."""
    return params.head_dim or max(1, width // (2 * params.heads))
