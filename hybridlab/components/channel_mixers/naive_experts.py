"""A mixture of experts as its papers write it: every expert on every position, times a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hybridlab.components.base import float_dtype
from hybridlab.components.channel_mixers.expert_layers import ExpertLayer
from hybridlab.components.channel_mixers.expert_routing import room

if TYPE_CHECKING:
    from hybridlab.components.channel_mixers.moe import MixtureOfExperts


def naive_experts(module: MixtureOfExperts, x_BLD: Tensor) -> Tensor:
    """Return what the experts and the shared layer give, (B, L, D) to (B, L, D)."""
    z_BLD = x_BLD if module.latent_in is None else x_BLD @ module.latent_in.weight.T
    weights_BLE = _weights(module, x_BLD)
    y_BLD = z_BLD.new_zeros(*x_BLD.shape[:2], module.experts_out.shape[-1])
    for expert, weight_BL in enumerate(weights_BLE.unbind(-1)):
        hidden_BLF = _formula(module.params.activation, z_BLD @ module.experts_in[expert])
        y_BLD = y_BLD + weight_BL.unsqueeze(-1) * (hidden_BLF @ module.experts_out[expert])
    if module.latent_out is not None:
        y_BLD = y_BLD @ module.latent_out.weight.T
    if module.shared_in is not None and module.shared_out is not None:
        hidden_BLF = _formula(module.params.activation, x_BLD @ module.shared_in.weight.T)
        shared_BLD = hidden_BLF @ module.shared_out.weight.T
        if module.shared_gate is not None:
            shared_BLD = shared_BLD / (1 + torch.exp(-(x_BLD @ module.shared_gate.weight.T)))
        y_BLD = y_BLD + shared_BLD
    return y_BLD


def _weights(module: MixtureOfExperts, x_BLD: Tensor) -> Tensor:
    """Return the weight (B, L, E) of every expert at every position, by ranks."""
    params = module.params
    logits_BLE = x_BLD.to(float_dtype(x_BLD)) @ module.router.weight.to(float_dtype(x_BLD)).T
    idle_E = torch.arange(params.experts) >= (module.active or params.experts)
    logits_BLE = logits_BLE.masked_fill(idle_E.to(logits_BLE.device), -float("inf"))
    if params.routing == "sigmoid":
        scores_BLE = 1 / (1 + torch.exp(-logits_BLE))
    else:
        scores_BLE = (logits_BLE - logits_BLE.logsumexp(-1, keepdim=True)).exp()
    if params.routing == "expert_choice":
        each = room(params.capacity_factor or 1.0, params.top_k, x_BLD.shape[1], params.experts)
        mine_BLE = _ranks(scores_BLE.transpose(1, 2)).transpose(1, 2) < each
        return params.routed_scale * scores_BLE * mine_BLE
    wanted_BLE = scores_BLE.detach()
    if module.selection_bias is not None:
        wanted_BLE = wanted_BLE + module.selection_bias
    wanted_BLE = wanted_BLE.masked_fill(idle_E.to(wanted_BLE.device), -float("inf"))
    if params.groups > 1:
        counted = 1 if module.selection_bias is None else 2
        parts_BLGe = torch.unflatten(wanted_BLE, -1, (params.groups, -1))
        best_BLGe = parts_BLGe.sort(-1, descending=True).values[..., :counted]
        open_BLG = _ranks(best_BLGe.sum(-1)) < params.top_groups
        open_BLE = open_BLG.repeat_interleave(params.experts // params.groups, -1)
        wanted_BLE = wanted_BLE.where(open_BLE, -float("inf"))
    rank_BLE = _ranks(wanted_BLE)
    chosen_BLE = rank_BLE < params.top_k
    weights_BLE = scores_BLE * chosen_BLE
    if params.weights == "normalised" or (params.weights == "auto" and params.top_k > 1):
        weights_BLE = weights_BLE / weights_BLE.sum(-1, keepdim=True)
    if params.capacity_factor and module.training:
        # A position's better choice takes its place first, but they are of different experts.
        each = room(params.capacity_factor, params.top_k, x_BLD.shape[1], params.experts)
        weights_BLE = weights_BLE * (chosen_BLE.long().cumsum(1) <= each)
    return params.routed_scale * weights_BLE


def _formula(layer: ExpertLayer, hidden_BLF: Tensor) -> Tensor:
    """Return the bend of an expert as its formula."""
    if layer == "relu_squared":
        return hidden_BLF * hidden_BLF * (hidden_BLF > 0)
    gate_BLF, value_BLF = hidden_BLF.chunk(2, dim=-1)
    return gate_BLF * gate_BLF.sigmoid() * value_BLF


def _ranks(x: Tensor) -> Tensor:
    """Return how many of the last dimension are larger than each: 0 for the largest."""
    return (x.unsqueeze(-2) > x.unsqueeze(-1)).sum(-1)
