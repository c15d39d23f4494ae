"""The index of DeepSeek sparse attention: scores every earlier position for every query, cheaply.

https://arxiv.org/abs/2512.02556, section 2.1. It computes in float32, because its choices jump.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import float_dtype

_LATER = 1e-9
"""What a position adds to the score of its place: of scores that are alike, all zero mostly, the later wins."""


class LightningIndex(nn.Module):
    """``I_ts = sum_j w_tj relu(q_tj . k_s)`` with J heads of I features; the keys are normalised."""

    def __init__(self, features: int, heads: int, size: int) -> None:
        """Create the maps to queries and weights of each head, and to the key that all heads share."""
        super().__init__()
        self.heads, self.size = heads, size
        self.query = nn.Linear(features, heads * size, bias=False)
        self.key = nn.Linear(features, size, bias=False)
        self.key_norm = nn.LayerNorm(size)
        self.weight = nn.Linear(features, heads, bias=False)

    def forward(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, L, J, I), keys (B, L, I) and weights (B, L, J), which hold the scores' scale too."""
        wide = float_dtype(x_BLD)
        with torch.autocast(x_BLD.device.type, enabled=False):
            x_BLD = x_BLD.to(wide)
            query_BLP, key_BLI, weights_BLJ = (
                F.linear(x_BLD, layer.weight.to(wide))
                for layer in (self.query, self.key, self.weight)
            )
            norm = self.key_norm
            scale, shift = norm.weight.to(wide), norm.bias.to(wide)
            key_BLI = F.layer_norm(key_BLI, (self.size,), scale, shift, norm.eps)
        queries_BLJI = torch.unflatten(query_BLP, -1, (self.heads, self.size))
        return queries_BLJI, key_BLI, weights_BLJ * (self.heads * self.size) ** -0.5

    def scores(self, queries_BTJI: Tensor, keys_BSI: Tensor, weights_BTJ: Tensor) -> Tensor:
        """Return the index (B, T, S) of S positions for T queries."""
        with torch.autocast(queries_BTJI.device.type, enabled=False):
            products_BTJS = (queries_BTJI @ keys_BSI.unsqueeze(1).transpose(-1, -2)).relu()
            return (weights_BTJ.unsqueeze(-2) @ products_BTJS).squeeze(-2)


def best(index_BTS: Tensor, count: int, first: int) -> Tensor:
    """Return which positions (B, T, S) are the ``count`` best up to each query, whose first stands at ``first``."""
    rows, columns = index_BTS.shape[1:]
    places_S = torch.arange(columns, device=index_BTS.device)
    later_TS = places_S > first + torch.arange(rows, device=index_BTS.device)[:, None]
    if columns <= count:
        return ~later_TS.expand_as(index_BTS)
    ranked_BTS = (index_BTS.detach() + places_S * _LATER).masked_fill(later_TS, float("-inf"))
    chosen_BTS = torch.zeros_like(index_BTS, dtype=torch.bool)
    return chosen_BTS.scatter(2, ranked_BTS.topk(count, dim=-1).indices, True) & ~later_TS


def best_in_order(index_BS: Tensor, count: int) -> Tensor:
    """Return the places (B, C), in order, of the ``count`` best of all positions, or of all there are."""
    places_S = torch.arange(index_BS.shape[1], device=index_BS.device)
    ranked_BS = index_BS.detach() + places_S * _LATER
    return ranked_BS.topk(min(count, index_BS.shape[1]), dim=-1).indices.sort(dim=-1).values


def disagreement(index_BTS: Tensor, wanted_BTS: Tensor, chosen_BTS: Tensor) -> Tensor:
    """Return the divergence (B, T) of softmax(index) from wanted weights among the chosen positions, in nats."""
    hidden = index_BTS.masked_fill(~chosen_BTS, float("-inf"))
    log_BTS = hidden.log_softmax(-1).masked_fill(~chosen_BTS, 0.0)
    wanted_BTS = wanted_BTS.to(log_BTS.dtype)
    return (torch.xlogy(wanted_BTS, wanted_BTS) - wanted_BTS * log_BTS).sum(-1)
