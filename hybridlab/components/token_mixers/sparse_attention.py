"""DeepSeek sparse attention: a small index chooses which positions each query attends to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.components.base import (
    FLOAT32_BYTES,
    BuildContext,
    Component,
    State,
    component,
    field,
    float_dtype,
)
from hybridlab.components.growing import appended
from hybridlab.components.rotary import RotaryParams, turned
from hybridlab.components.token_mixers.attention_params import AttentionParams, attention_problems
from hybridlab.components.token_mixers.lightning_index import (
    LightningIndex,
    best,
    best_in_order,
    disagreement,
)
from hybridlab.components.token_mixers.naive_attention import turned_as_complex
from hybridlab.errors import Problem

BLOCK = 128
"""Queries whose scores exist at the same time."""


@component(
    "sparse_attention",
    kind="token_mixer",
    title="Sparse attention (DeepSeek)",
    summary="Attention to the few positions that a small index finds worth it, query by query.",
    cost="quadratic",
    paper="https://arxiv.org/abs/2512.02556",
)
class SparseAttention(Component):
    """DeepSeek sparse attention, (B, L, D) to (B, L, D); H heads, of which groups share keys and values.

    Query t attends to the k positions s <= t of the largest index ``I_ts = sum_j w_tj relu(q_tj . k_s)``, a sum over
    J index heads whose queries, one key a position and weights are linear in the input:
    ``y_t = sum_s softmax_s(q_t k_s / sqrt(K)) v_s`` over those. A choice has no gradient: the index learns from a loss
    of its own, its distance from what the heads attend to on average, and nothing else learns from that loss. The
    published models put it on latent attention; here it is on attention with keys and values of its own. The index is
    still quadratic in length, though far cheaper than the heads.
    """

    class Params(RotaryParams):
        """Parameters of ``sparse_attention``."""

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
        top_k: int = field(
            16,
            help="Positions that a query attends to.",
            ge=1,
            le=1_048_576,
            unit="positions",
            search=[8, 16, 32],
        )
        index_heads: int = field(2, help="Heads of the index.", ge=1, le=1024, search=[1, 2, 4])
        index_dim: int = field(
            16, help="Features of an index query.", ge=2, le=4096, unit="features"
        )
        index_weight: float = field(
            1.0,
            help="Weight of the loss from which the index learns; 0: it stays as it started.",
            ge=0,
            le=100,
        )

    params: Params
    loops = "Queries go in blocks of 128, which see the keys before them alone: half of all scores are never made."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps to the heads, the index and the map out."""
        super().__init__(params, context)
        self.heads, self.kv_heads = params.heads, params.kv_heads or params.heads
        self.head_dim = params.head_dim or context.width // params.heads
        projected = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.project_in = nn.Linear(context.features, projected, bias=False)
        self.index = LightningIndex(context.features, params.index_heads, params.index_dim)
        self.project_out = nn.Linear(self.heads * self.head_dim, context.width, bias=False)
        self._disagreement: Tensor | None = None

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L, a block of queries at a time."""
        q_BGRLK, k_BGLK, v_BGLK = self._heads(x_BLD, 0)
        queries_BLJI, keys_BLI, weights_BLJ = self._indexed(x_BLD, 0)
        parts, apart, start = [], [], 0
        blocks = (
            torch.split(q_BGRLK, BLOCK, 3),
            torch.split(queries_BLJI, BLOCK, 1),
            torch.split(weights_BLJ, BLOCK, 1),
        )
        for q_BGRTK, queries_BTJI, weights_BTJ in zip(*blocks, strict=True):
            stop = start + queries_BTJI.shape[1]
            index_BTS = self.index.scores(queries_BTJI, keys_BLI[:, :stop], weights_BTJ)
            chosen_BTS = best(index_BTS, self.params.top_k, start)
            y_BGRTK, weights_BGRTS = _attended(
                q_BGRTK, k_BGLK[:, :, :stop], v_BGLK[:, :, :stop], chosen_BTS
            )
            parts.append(y_BGRTK)
            if self.training:
                wanted_BTS = weights_BGRTS.detach().flatten(1, 2).mean(1)
                apart.append(disagreement(index_BTS, wanted_BTS, chosen_BTS))
            start = stop
        if apart:
            self._disagreement = torch.cat(apart, dim=1).mean()
        return self._out(torch.cat(parts, dim=3), queries_BLJI, keys_BLI, weights_BLJ)

    def _heads(self, x_BLD: Tensor, first: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, G, R, L, K), R for each of G key-value heads, keys and values (B, G, L, K)."""
        all_BALK = torch.unflatten(self.project_in(x_BLD), -1, (-1, self.head_dim)).transpose(1, 2)
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        q_BHLK, k_BGLK, v_BGLK = torch.split(all_BALK, sizes, dim=1)
        q_BHLK, k_BGLK = (turned(part, self.params, first) for part in (q_BHLK, k_BGLK))
        return torch.unflatten(q_BHLK, 1, (self.kv_heads, -1)), k_BGLK, v_BGLK

    def _indexed(self, x_BLD: Tensor, first: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the index's queries (B, L, J, I), keys (B, L, I) and weights (B, L, J); no gradient leaves it."""
        queries_BLJI, keys_BLI, weights_BLJ = self.index(x_BLD.detach())
        turned_BJLI = turned(queries_BLJI.transpose(1, 2), self.params, first)
        keys_BLI = turned(keys_BLI.unsqueeze(1), self.params, first).squeeze(1)
        return turned_BJLI.transpose(1, 2), keys_BLI, weights_BLJ

    def _out(self, y_BGRLK: Tensor, *index: Tensor) -> Tensor:
        """Project what the heads give to (B, L, D); the index joins without effect, so that its gradient is zero."""
        none = sum((part.sum() * 0.0 for part in index), start=y_BGRLK.new_zeros(()))
        y_BLP = y_BGRLK.flatten(1, 2).transpose(1, 2).flatten(2)
        out_BLD: Tensor = self.project_out(y_BLP + none.to(y_BLP.dtype))
        return out_BLD

    def aux_loss(self) -> Tensor | None:
        """Return the mean divergence (nats) of the index from what the heads attended to, times ``index_weight``."""
        if self._disagreement is None or not self.params.index_weight:
            return None
        return self.params.index_weight * self._disagreement

    def report(self) -> dict[str, float | list[float]]:
        """Return how far the index is from the heads, in nats."""
        return (
            {}
            if self._disagreement is None
            else {"disagreement": float(self._disagreement.detach())}
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_disagreement": None}

    def start(self, batch: int) -> State:
        """Return the position and empty caches: keys, values (B, G, 0, K) and index keys (B, 0, I)."""
        weight = self.project_in.weight
        cache_BGSK = weight.new_zeros(batch, self.kv_heads, 0, self.head_dim)
        index_BSI = weight.new_zeros(batch, 0, self.params.index_dim, dtype=float_dtype(weight))
        position = torch.zeros((), dtype=torch.int64, device=weight.device)
        return position, cache_BGSK, cache_BGSK, index_BSI

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D): the index looks at all of the cache, the heads at what it chose."""
        x_B1D = inputs_BD[0].unsqueeze(1)
        position, keys_BGSK, values_BGSK, index_BSI = state
        q_BGR1K, k_BG1K, v_BG1K = self._heads(x_B1D, position)
        query_B1JI, key_B1I, weight_B1J = self._indexed(x_B1D, position)
        keys_BGSK = appended(keys_BGSK, k_BG1K, dim=2)
        values_BGSK = appended(values_BGSK, v_BG1K, dim=2)
        index_BSI = appended(index_BSI, key_B1I, dim=1)
        scores_BS = self.index.scores(query_B1JI, index_BSI, weight_B1J).squeeze(1)
        places_BC = best_in_order(scores_BS, self.params.top_k)
        at_BGCK = places_BC[:, None, :, None].expand(-1, self.kv_heads, -1, self.head_dim)
        y_BGR1K, _ = _attended(
            q_BGR1K, keys_BGSK.gather(2, at_BGCK), values_BGSK.gather(2, at_BGCK)
        )
        y_B1D = self._out(y_BGR1K, query_B1JI, key_B1I, weight_B1J)
        return y_B1D.squeeze(1), (position + 1, keys_BGSK, values_BGSK, index_BSI)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Choose and attend query by query, rotations as complex numbers."""
        (x_BLD,) = inputs
        all_BALK = torch.unflatten(self.project_in(x_BLD), -1, (-1, self.head_dim)).transpose(1, 2)
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        q_BHLK, k_BGLK, v_BGLK = torch.split(all_BALK, sizes, dim=1)
        q_BHLK, k_BGLK = (turned_as_complex(part, self.params) for part in (q_BHLK, k_BGLK))
        index_BLJI, index_BLI, weights_BLJ = self.index(x_BLD.detach())
        index_BJLI = turned_as_complex(index_BLJI.transpose(1, 2), self.params)
        index_BLI = turned_as_complex(index_BLI.unsqueeze(1), self.params).squeeze(1)
        group, rows = self.heads // self.kv_heads, []
        k_BHLK, v_BHLK = (part.repeat_interleave(group, dim=1) for part in (k_BGLK, v_BGLK))
        queries = zip(q_BHLK.unbind(2), index_BJLI.unbind(2), weights_BLJ.unbind(1), strict=True)
        for t, (q_BHK, index_BJI, weights_BJ) in enumerate(queries):
            products_BSJ = torch.einsum("bsi,bji->bsj", index_BLI[:, : t + 1], index_BJI).relu()
            scores_BS = (products_BSJ * weights_BJ.unsqueeze(1)).sum(-1)
            places_BC = best_in_order(scores_BS, self.params.top_k)
            at_BHCK = places_BC[:, None, :, None].expand(-1, self.heads, -1, self.head_dim)
            seen_BHCK, values_BHCK = k_BHLK.gather(2, at_BHCK), v_BHLK.gather(2, at_BHCK)
            scores_BHC = (seen_BHCK * q_BHK.unsqueeze(2)).sum(-1) * self.head_dim**-0.5
            rows.append((scores_BHC.softmax(-1).unsqueeze(-1) * values_BHCK).sum(2))
        y_BHLK = torch.stack(rows, dim=2)
        y_BGRLK = torch.unflatten(y_BHLK, 1, (self.kv_heads, -1))
        return self._out(y_BGRLK, index_BJLI, index_BLI, weights_BLJ)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where heads do not divide, or what turns is not pairs."""
        shared = set(AttentionParams.model_fields) & set(cls.Params.model_fields)
        alike = AttentionParams(**{name: getattr(params, name) for name in shared})
        yield from attention_problems(alike, context)
        if params.rotary and params.index_dim % 2:
            yield Problem(
                "index_dim",
                "rotary positions turn pairs of features",
                "an even number",
                str(params.index_dim),
                f"try {params.index_dim + 1}, or set rotary: false",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Always."""
        return True

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return a key and a value for each key-value head, and an index key."""
        size = params.head_dim or context.width // params.heads
        return (2 * (params.kv_heads or params.heads) * size + params.index_dim) * FLOAT32_BYTES


def _attended(
    q_BGRTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, chosen_BTS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend to the chosen positions (all where None); return (B, G, R, T, K), and the weights (B, G, R, T, S)."""
    scores_BGRTS = (q_BGRTK @ k_BGSK.unsqueeze(2).transpose(-1, -2)) * q_BGRTK.shape[-1] ** -0.5
    scores_BGRTS = scores_BGRTS.to(float_dtype(scores_BGRTS))
    if chosen_BTS is not None:
        scores_BGRTS = scores_BGRTS.masked_fill(~chosen_BTS[:, None, None], float("-inf"))
    weights_BGRTS = scores_BGRTS.softmax(-1)
    return weights_BGRTS.to(v_BGSK.dtype) @ v_BGSK.unsqueeze(2), weights_BGRTS
