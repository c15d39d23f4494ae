"""Which experts work on a position: scores, choices among them, and the room that each expert has.

T positions, k choices of a position, E experts, C places of an expert in a sequence.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Routing = Literal["softmax", "sigmoid", "expert_choice"]


def best_experts(
    scores_TE: Tensor,
    bias_E: Tensor | None,
    top_k: int,
    groups: int,
    top_groups: int,
) -> tuple[Tensor, Tensor]:
    """Return scores and indices (T, k) of the experts with the highest score plus bias, best first.

    Where there are groups, only experts of the best groups can be chosen. A group is worth its best
    expert (DeepSeek-V2) or, where there is a bias, the sum of its best two (DeepSeek-V3). The bias
    has a say in the choice alone: the scores that come out are without it.
    """
    wanted_TE = scores_TE if bias_E is None else scores_TE + bias_E.to(scores_TE.dtype)
    if top_groups < groups:
        wanted_TE = _within_best_groups(wanted_TE, groups, top_groups, 1 if bias_E is None else 2)
    if wanted_TE is scores_TE:
        best_Tk, chosen_Tk = scores_TE.topk(top_k, dim=-1)
        return best_Tk, chosen_Tk
    chosen_Tk = wanted_TE.topk(top_k, dim=-1).indices
    return scores_TE.gather(-1, chosen_Tk), chosen_Tk


def _within_best_groups(wanted_TE: Tensor, groups: int, top_groups: int, counted: int) -> Tensor:
    """Return what is wanted (T, E) with minus infinity for experts outside the best groups."""
    wanted_TGe = torch.unflatten(wanted_TE, -1, (groups, -1))
    worth_TG = wanted_TGe.topk(min(counted, wanted_TGe.shape[-1]), dim=-1).values.sum(-1)
    best_Tg = worth_TG.topk(top_groups, dim=-1).indices
    shut_TG = torch.ones_like(worth_TG, dtype=torch.bool).scatter(-1, best_Tg, False)
    return wanted_TGe.masked_fill(shut_TG.unsqueeze(-1), float("-inf")).flatten(-2)


def room(factor: float, top_k: int, length: int, experts: int) -> int:
    """Return the places C of an expert in a sequence: its even share of the choices times a factor."""
    return max(1, min(length, math.ceil(factor * top_k * length / experts)))


def places(chosen_BLk: Tensor, experts: int, each: int) -> Tensor:
    """Return the place (B, L x k) of each choice among E x C places; E x C where there is no room.

    Places are given along the sequence, to a position's better choice first, so that what comes
    later takes nothing from what was there before.
    """
    chosen_BS = chosen_BLk.flatten(1)
    sorted_BS, order_BS = chosen_BS.sort(dim=1, stable=True)
    ids_BE = torch.arange(experts, device=chosen_BS.device).expand(chosen_BS.shape[0], -1)
    first_BE = torch.searchsorted(sorted_BS, ids_BE.contiguous())
    along_S = torch.arange(chosen_BS.shape[1], device=chosen_BS.device)
    rank_BS = along_S - first_BE.gather(1, sorted_BS)
    place_BS = torch.where(rank_BS < each, sorted_BS * each + rank_BS, experts * each)
    return torch.zeros_like(place_BS).scatter(1, order_BS, place_BS)
