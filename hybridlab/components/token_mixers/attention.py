"""Softmax attention: full or sliding window, with grouped key-value heads and positions of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from hybridlab.components.base import FLOAT32_BYTES, BuildContext, Component, State, component
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.growing import appended
from hybridlab.components.joined_maps import each_of
from hybridlab.components.root_mean_square import RootMeanSquare
from hybridlab.components.rotary import turned
from hybridlab.components.token_mixers.attention_params import AttentionParams, attention_problems
from hybridlab.components.token_mixers.naive_attention import attend_row_by_row, turned_as_complex
from hybridlab.components.token_mixers.softmax_attention import attend
from hybridlab.errors import Problem, StepError


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

    Per head of K features ``y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s`` over the positions s that t may see, with
    ``q = x Wq``, ``k = x Wk`` and ``v = x Wv``; the output is ``y Wo``, of all heads side by side.

    H query heads share G key-value heads (grouped queries, https://arxiv.org/abs/2305.13245).
    Positions: rotary (https://arxiv.org/abs/2104.09864), by distance (ALiBi, https://arxiv.org/abs/2108.12409),
    or none. A short convolution on queries, keys and values, as linear-attention models have, lets one
    layer see pairs of neighbours. A window makes the cost linear: it runs in blocks. With soft cap,
    sinks or ALiBi all runs in blocks of queries, outside PyTorch's kernels.
    """

    class Params(AttentionParams):
        """Parameters of ``attention``."""

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create one projection in (queries, keys, values) and one out; sinks start at zero."""
        super().__init__(params, context)
        self.heads = params.heads
        self.kv_heads = params.kv_heads or params.heads
        self.head_dim = params.head_size(context.width)
        self.turning = params.turning(context.width)
        queries, keys, _ = self._sizes
        projected = sum(self._sizes)
        self.project_in = nn.Linear(context.features, projected, bias=params.bias)
        self.project_out = nn.Linear(queries, context.width, bias=params.out_bias)
        self.conv = (
            DepthwiseConv(projected, params.conv, causal=params.causal) if params.conv else None
        )
        if params.qk_norm_over == "head":
            queries = keys = self.head_dim
        eps = params.norm_eps
        self.query_norm = RootMeanSquare(queries, eps) if params.qk_norm else nn.Identity()
        self.key_norm = RootMeanSquare(keys, eps) if params.qk_norm else nn.Identity()
        self.sinks = nn.Parameter(torch.zeros(self.heads)) if params.sinks else None
        self.output_gate = (
            nn.Linear(context.features, self.heads * self.head_dim, bias=params.bias)
            if params.output_gate
            else None
        )

    def adapts(self) -> Mapping[str, tuple[int, ...]]:
        """Let queries, keys and values each have a low-rank pair."""
        return {"project_in": tuple(self._sizes)}

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        y_BHLK = self._attend(
            attend, *self._turned(x_BLD), causal=self.params.causal, window=self.params.window
        )
        return self._out(y_BHLK, x_BLD)

    def _turned(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, L, K) and keys (B, G, L, K), both turned by their positions, and values."""
        if self.conv is None:
            parts = each_of(self.project_in, x_BLD, self._sizes)
        else:
            parts = torch.split(self.conv(self.project_in(x_BLD)), self._sizes, dim=-1)
        q_BHLK, k_BGLK, v_BGLK = self._heads(*parts)
        return self._turn(q_BHLK, 0), self._turn(k_BGLK, 0), v_BGLK

    @property
    def _sizes(self) -> list[int]:
        """Features of all queries, of all keys and of all values."""
        return [count * self.head_dim for count in (self.heads, self.kv_heads, self.kv_heads)]

    def mixing_matrix(self, *inputs: Tensor) -> Tensor:
        """Return the weights of attention (B, H, L, L): what is read where each position's value is its own place."""
        q_BHLK, k_BGLK, v_BGLK = self._turned(*inputs)
        eye_LL = torch.eye(v_BGLK.shape[2], dtype=v_BGLK.dtype, device=v_BGLK.device)
        eye_BGLL = eye_LL.expand(*v_BGLK.shape[:2], -1, -1)
        causal, window = self.params.causal, self.params.window
        return self._attend(attend, q_BHLK, k_BGLK, eye_BGLL, causal=causal, window=window)

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
            StepError: not causal.
        """
        if not self.params.causal:
            raise StepError("attention that looks ahead cannot run one position at a time")
        (x_BD,) = inputs_BD
        position, keys_BGSK, values_BGSK, *before = state
        projected_BP = self.project_in(x_BD)
        if self.conv is not None:
            projected_BP, before[0] = self.conv.step(before[0], projected_BP)
        parts = torch.split(projected_BP.unsqueeze(1), self._sizes, dim=-1)
        q_BH1K, k_BG1K, v_BG1K = self._heads(*parts)
        q_BH1K, k_BG1K = self._turn(q_BH1K, position), self._turn(k_BG1K, position)
        if window := self.params.window:
            kept = slice(1 - window, None) if window > 1 else slice(0, 0)
            keys_BGSK = torch.cat((keys_BGSK[:, :, kept], k_BG1K), dim=2)
            values_BGSK = torch.cat((values_BGSK[:, :, kept], v_BG1K), dim=2)
        else:
            keys_BGSK = appended(keys_BGSK, k_BG1K, dim=2)
            values_BGSK = appended(values_BGSK, v_BG1K, dim=2)
        y_BH1K = self._attend(attend, q_BH1K, keys_BGSK, values_BGSK, causal=False, window=None)
        y_B1D = self._out(y_BH1K, x_BD.unsqueeze(1))
        return y_B1D.squeeze(1), (position + 1, keys_BGSK, values_BGSK, *before)

    def _heads(self, *parts_BLP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn three (B, L, P) into normed queries (B, H, L, K), keys and values (B, G, L, K)."""
        q_BLP, k_BLP, v_BLP = parts_BLP
        if self.params.qk_norm_over == "all":
            q_BLP, k_BLP = self.query_norm(q_BLP), self.key_norm(k_BLP)
        q_BHLK, k_BGLK, v_BGLK = (
            torch.unflatten(part, -1, (-1, self.head_dim)).transpose(1, 2)
            for part in (q_BLP, k_BLP, v_BLP)
        )
        if self.params.qk_norm_over == "head":
            q_BHLK, k_BGLK = self.query_norm(q_BHLK), self.key_norm(k_BGLK)
        return q_BHLK, k_BGLK, v_BGLK

    def _turn(self, x_BHLK: Tensor, first: Tensor | int) -> Tensor:
        """Turn the share of the features that turns; ``first`` is the position of the first of the L."""
        turning = self.turning
        if turning == self.head_dim or not self.params.rotary:
            return turned(x_BHLK, self.params, first)
        return torch.cat(
            (turned(x_BHLK[..., :turning], self.params, first), x_BHLK[..., turning:]), dim=-1
        )

    def _attend(
        self,
        form: Callable[..., Tensor],
        *q_k_v: Tensor,
        causal: bool,
        window: int | None,
    ) -> Tensor:
        """Attend by the efficient or the naive form."""
        return form(
            *q_k_v,
            causal=causal,
            window=window,
            scale=self.params.scale,
            soft_cap=self.params.soft_cap,
            alibi=self.params.alibi,
            sinks_H=self.sinks,
        )

    def _out(self, y_BHLK: Tensor, x_BLD: Tensor) -> Tensor:
        """Gate what the heads give and project to (B, L, D)."""
        y_BLP = y_BHLK.transpose(1, 2).flatten(2)
        if self.output_gate is not None:
            y_BLP = y_BLP * torch.sigmoid(self.output_gate(x_BLD))
        y_BLD: Tensor = self.project_out(y_BLP)
        return y_BLD

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute softmax(q k / sqrt(K)) v query by query, rotations as complex numbers."""
        (x_BLD,) = inputs
        projected_BLP = self.project_in(x_BLD)
        if self.conv is not None:
            projected_BLP = self.conv.reference(projected_BLP)
        q_BHLK, k_BGLK, v_BGLK = self._heads(*torch.split(projected_BLP, self._sizes, dim=-1))
        turning = self.turning
        q_BHLK, k_BGLK = (
            torch.cat((turned_as_complex(x[..., :turning], self.params), x[..., turning:]), dim=-1)
            for x in (q_BHLK, k_BGLK)
        )
        causal, window = self.params.causal, self.params.window
        y_BHLK = self._attend(
            attend_row_by_row, q_BHLK, k_BGLK, v_BGLK, causal=causal, window=window
        )
        return self._out(y_BHLK, x_BLD)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide, or positions do not fit the heads or each other."""
        yield from attention_problems(params, context)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def _cache_bytes(cls, params: Params, context: BuildContext) -> float:
        size = params.head_size(context.width)
        return 2 * (params.kv_heads or params.heads) * size * FLOAT32_BYTES

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return a key and a value for each key-value head; 0 with a window, whose cache is fixed."""
        return 0.0 if params.window else cls._cache_bytes(params, context)

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the cache of a full window, and the last inputs of the convolution."""
        size = params.head_size(context.width)
        projected = (params.heads + 2 * (params.kv_heads or params.heads)) * size
        conv_bytes = max(0, params.conv - 1) * projected * FLOAT32_BYTES
        return (params.window or 0) * cls._cache_bytes(params, context) + conv_bytes

    @classmethod
    def state_bytes_after(cls, params: Params, context: BuildContext, positions: int) -> float:
        """Return the cache as far as its window is filled."""
        missing = max(0, (params.window or 0) - positions) * cls._cache_bytes(params, context)
        return super().state_bytes_after(params, context, positions) - missing
