"""Cross-attention: positions of one sequence look at those of another."""

from __future__ import annotations

from collections.abc import Iterator

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
    must_divide,
)
from hybridlab.components.growing import appended
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.token_mixers.naive_attention import attend_row_by_row
from hybridlab.components.token_mixers.softmax_attention import attend
from hybridlab.errors import Problem, StepError


@component(
    "cross_attention",
    kind="token_mixer",
    title="Cross-attention",
    summary="Every position of the first input looks at the second one, such as an encoder's output.",
    cost="quadratic",
    paper="https://arxiv.org/abs/1706.03762",
)
class CrossAttention(Component):
    """Queries from the first input (B, L, D), keys and values from the second (B, S, E); gives (B, L, D).

    Per head of K features ``y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s`` with ``q = x Wq`` of the first input,
    ``k = z Wk`` and ``v = z Wv`` of the second; the output is ``y Wo``, of all heads side by side.

    The two may differ in length and in features. A residual, and the norm before it, is that of the
    first input. There are no positions: what is looked at brings its own.
    """

    class Params(base.Params):
        """Parameters of ``cross_attention``."""

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
        causal: bool = field(
            True,
            help="Position t sees positions 0 to t of the second input; off where that is known as a "
            "whole, such as an encoder's output.",
        )
        qk_norm: bool = field(False, help="Normalise queries and keys per head; steadies training.")
        bias: bool = field(False, help="A learned shift of queries, keys, values and the output.")

    params: Params
    min_inputs = 2
    max_inputs = 2

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps from either input and the one out."""
        super().__init__(params, context)
        self.kv_heads = params.kv_heads or params.heads
        self.head_dim = params.head_dim or context.width // params.heads
        first, second = (given.features for given in context.inputs)
        inner = params.heads * self.head_dim
        self.queries = nn.Linear(first, inner, bias=params.bias)
        self.keys_values = nn.Linear(second, 2 * self.kv_heads * self.head_dim, bias=params.bias)
        self.query_norm = RootMeanSquare(self.head_dim) if params.qk_norm else nn.Identity()
        self.key_norm = RootMeanSquare(self.head_dim) if params.qk_norm else nn.Identity()
        self.project_out = nn.Linear(inner, context.width, bias=params.bias)

    def forward(self, x_BLD: Tensor, other_BSE: Tensor) -> Tensor:
        """Look from (B, L, D) at (B, S, E)."""
        q_BHLK, k_BGSK, v_BGSK = self._heads(x_BLD, other_BSE)
        y_BHLK = attend(q_BHLK, k_BGSK, v_BGSK, causal=self.params.causal)
        return self._out(y_BHLK)

    def _heads(self, x_BLD: Tensor, other_BSE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, L, K), keys and values (B, G, S, K)."""
        size = (-1, self.head_dim)
        q_BHLK = torch.unflatten(self.queries(x_BLD), -1, size).transpose(1, 2)
        both_BASK = torch.unflatten(self.keys_values(other_BSE), -1, size).transpose(1, 2)
        k_BGSK, v_BGSK = both_BASK.chunk(2, dim=1)
        return self.query_norm(q_BHLK), self.key_norm(k_BGSK), v_BGSK

    def _out(self, y_BHLK: Tensor) -> Tensor:
        y_BLD: Tensor = self.project_out(y_BHLK.transpose(1, 2).flatten(2))
        return y_BLD

    def start(self, batch: int) -> State:
        """Return empty caches of keys and values (B, G, 0, K)."""
        cache_BGSK = self.queries.weight.new_zeros(batch, self.kv_heads, 0, self.head_dim)
        return cache_BGSK, cache_BGSK

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position of either input, (B, D) and (B, E).

        Raises:
            StepError: not causal.
        """
        if not self.params.causal:
            raise StepError("attention that looks ahead cannot run one position at a time")
        x_BD, other_BE = inputs_BD
        q_BH1K, k_BG1K, v_BG1K = self._heads(x_BD.unsqueeze(1), other_BE.unsqueeze(1))
        keys_BGSK, values_BGSK = (
            appended(cache, new, dim=2) for cache, new in zip(state, (k_BG1K, v_BG1K), strict=True)
        )
        y_BH1K = attend(q_BH1K, keys_BGSK, values_BGSK, causal=False)
        return self._out(y_BH1K).squeeze(1), (keys_BGSK, values_BGSK)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Attend query by query."""
        x_BLD, other_BSE = inputs
        y_BHLK = attend_row_by_row(*self._heads(x_BLD, other_BSE), causal=self.params.causal)
        return self._out(y_BHLK)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide; a warning where causal sequences differ in length."""
        if params.head_dim is None:
            yield from must_divide("heads", params.heads, context.width, "width")
        if params.kv_heads is not None:
            yield from must_divide("kv_heads", params.kv_heads, params.heads, "heads")
        first, second = (given.shape[1] for given in context.inputs)
        if params.causal and first != second:
            yield Problem(
                "causal",
                "position t of one sequence sees positions 0 to t of another of a different length",
                f"length {first}",
                f"length {second}",
                "set causal: false to see all of it",
                severity="warning",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return a key and a value for each key-value head."""
        size = params.head_dim or context.width // params.heads
        return 2 * (params.kv_heads or params.heads) * size * FLOAT32_BYTES
