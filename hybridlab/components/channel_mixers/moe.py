"""Mixture of experts: each position is worked on by its few best experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    BuildContext,
    Component,
    State,
    component,
    field,
    float_dtype,
)
from hybridlab.components.channel_mixers.expert_checks import check_experts
from hybridlab.components.channel_mixers.expert_layers import (
    ExpertLayer,
    bend,
    columns_in,
    expert_weights,
    over_batch,
    run_placed,
    run_sorted,
)
from hybridlab.components.channel_mixers.expert_routing import Routing, best_experts, places, room
from hybridlab.components.channel_mixers.hidden_size import hidden_size
from hybridlab.components.channel_mixers.naive_experts import naive_experts
from hybridlab.errors import Problem


@component(
    "moe",
    kind="channel_mixer",
    title="Mixture of experts",
    summary="A router sends each position to its best few of many feed-forward layers.",
    cost="linear",
    paper="https://arxiv.org/abs/2101.03961",
)
class MixtureOfExperts(Component):
    """Routing over E experts, (B, L, D) to (B, L, D); T = B x L positions.

    ``y = sum_e w_e(x) f_e(x)`` over the experts e chosen for x, f_e a feed-forward layer each; the weights w are
    those of ``x W`` after the routing's function, and a shared expert adds what it makes of every position.

    ``softmax``: a position goes to its k best experts (https://arxiv.org/abs/2401.04088), and a loss
    spreads positions over the experts. ``sigmoid``: the same with scores that do not compete; no loss,
    but a bias per expert that has a say in the choice alone and is moved after each update of the
    weights, up where an expert had less than its share and down where it had more
    (https://arxiv.org/abs/2408.15664). ``expert_choice``: each expert takes its best positions of a
    sequence (https://arxiv.org/abs/2202.09368; there, of the whole batch), so that all have the same
    load, a position may get none, and what comes later decides too: it is not causal.

    The router computes in float32, because its choices jump. No position is dropped, but in training
    with a ``capacity_factor``: an expert then has that many times its even share of places in a
    sequence, given along the sequence, and a choice that finds none adds nothing. Without data
    (fake tensors) every expert gets T k / E positions, its expectation under a balanced router:
    operations and bytes in total are then those of any real routing.
    """

    class Params(base.Params):
        """Parameters of ``moe``."""

        experts: int = field(4, help="Number of experts.", ge=1, le=1024, search=[2, 4, 8, 16])
        top_k: int = field(
            2,
            help="Experts that work on a position; with expert_choice on average.",
            ge=1,
            le=64,
            search=[1, 2],
        )
        ratio: float = field(
            8 / 3,
            help="Hidden features of one expert per feature of the width, rounded to a multiple "
            "of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[2 / 3, 4 / 3, 8 / 3],
        )
        balance_weight: float = field(
            0.01,
            help="Weight of the loss that spreads positions evenly over the experts, for softmax "
            "routing; 0: none.",
            ge=0,
            le=10,
            search=[0.001, 0.01, 0.1],
        )
        routing: Routing = field(
            "softmax",
            help="How experts and positions find each other; expert_choice looks ahead.",
            search=["softmax", "sigmoid"],
        )
        bias_step: float = field(
            0.001,
            help="How far each update moves the bias that balances sigmoid routing; 0: none.",
            ge=0,
            le=1,
        )
        weights: Literal["auto", "normalised", "raw"] = field(
            "auto",
            help="Weights of the chosen experts: made to sum to one, or their scores as they are; "
            "auto: made to sum to one where a position chooses several.",
        )
        routed_scale: float = field(
            1.0, help="Factor on what the chosen experts give.", gt=0, le=1000
        )
        groups: int = field(1, help="Groups that the experts are divided into.", ge=1, le=1024)
        top_groups: int = field(
            1, help="Groups that a position may choose experts from.", ge=1, le=1024
        )
        capacity_factor: float = field(
            0.0,
            help="Places of an expert in a sequence over its even share, in training; what finds "
            "none is dropped; 0: no limit (with expert_choice the even share).",
            ge=0,
            le=64,
            search=[0.0, 1.25],
        )
        activation: ExpertLayer = field(
            "swiglu", help="What an expert is: a gated layer, or a plain one with relu squared."
        )
        shared_ratio: float = field(
            0.0,
            help="Hidden features of a layer that works on every position, per feature of the "
            "width; 0: none.",
            ge=0,
            le=32,
            unit="x width",
            search=[0.0, 8 / 3],
        )
        shared_gate: bool = field(
            False, help="Open the shared layer by a sigmoid of the input, as in Qwen3-Next."
        )
        latent: int = field(
            0,
            help="Features that experts read and give, between two maps that they share, as in "
            "Nemotron-H; 0: the width.",
            ge=0,
            le=65_536,
        )

    data_decides = "every expert is expected to get an even share of the positions"

    params: Params
    selection_bias: Tensor | None
    load_since_update: Tensor | None
    active: int | None = None
    """How many experts can be chosen, the first ones; None: all."""

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the router and the experts, each uniform within 1 / sqrt(fan-in)."""
        super().__init__(params, context)
        experts, features, width = params.experts, context.features, context.width
        hidden = hidden_size(params.ratio, width)
        columns = columns_in(params.activation, hidden)
        self.router = nn.Linear(features, experts, bias=False)
        self.experts_in = expert_weights(experts, params.latent or features, columns)
        self.experts_out = expert_weights(experts, hidden, params.latent or width)
        self.latent_in = nn.Linear(features, params.latent, bias=False) if params.latent else None
        self.latent_out = nn.Linear(params.latent, width, bias=False) if params.latent else None
        shared = hidden_size(params.shared_ratio, width) if params.shared_ratio else 0
        both = columns_in(params.activation, shared)
        self.shared_in = nn.Linear(features, both, bias=False) if shared else None
        self.shared_out = nn.Linear(shared, width, bias=False) if shared else None
        self.shared_gate = nn.Linear(features, 1, bias=False) if params.shared_gate else None
        bias_E = torch.zeros(experts) if params.routing == "sigmoid" else None
        self.register_buffer("selection_bias", bias_E)
        seen_E = None if bias_E is None else torch.zeros(experts)
        self.register_buffer("load_since_update", seen_E, persistent=False)
        self._balance: Tensor | None = None
        self._told: dict[str, Tensor] = {}

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Send each position of (B, L, D) through its experts, and through the shared layer."""
        z_BLD = x_BLD if self.latent_in is None else self.latent_in(x_BLD)
        scores_BLE = self._scores(x_BLD)
        if self.params.routing == "expert_choice":
            y_BLD = self._chosen_by_experts(z_BLD, scores_BLE)
        else:
            y_BLD = self._chosen_by_positions(z_BLD, scores_BLE)
        if self.latent_out is not None:
            y_BLD = self.latent_out(y_BLD)
        if self.shared_in is not None and self.shared_out is not None:
            shared_BLF = bend(self.params.activation, self.shared_in(x_BLD))
            shared_BLD = self.shared_out(shared_BLF)
            if self.shared_gate is not None:
                shared_BLD = shared_BLD * self.shared_gate(x_BLD).sigmoid()
            y_BLD = y_BLD + shared_BLD
        return y_BLD

    def _scores(self, x_BLD: Tensor) -> Tensor:
        """Return how much each position likes each expert (B, L, E), in float32 or better."""
        wide = float_dtype(x_BLD)
        with torch.autocast(x_BLD.device.type, enabled=False):
            logits_BLE = F.linear(x_BLD.to(wide), self.router.weight.to(wide))
        if self.active is not None:
            logits_BLE = logits_BLE.masked_fill(self._idle(logits_BLE), float("-inf"))
        sigmoid = self.params.routing == "sigmoid"
        scores_BLE = logits_BLE.sigmoid() if sigmoid else logits_BLE.softmax(-1)
        shares_BLE = scores_BLE.detach()
        if sigmoid:
            shares_BLE = shares_BLE / shares_BLE.sum(-1, keepdim=True)
        self._told = {"router_entropy": torch.special.entr(shares_BLE).sum(-1).mean()}
        return scores_BLE

    def _chosen_by_positions(self, x_BLD: Tensor, scores_BLE: Tensor) -> Tensor:
        """Let each position choose its k experts; in training these may be full."""
        params = self.params
        weights_BLk, chosen_BLk = best_experts(
            scores_BLE, self._bias(scores_BLE), params.top_k, params.groups, params.top_groups
        )
        if params.weights == "normalised" or (params.weights == "auto" and params.top_k > 1):
            weights_BLk = weights_BLk / weights_BLk.sum(-1, keepdim=True)
        if params.routed_scale != 1:
            weights_BLk = weights_BLk * params.routed_scale
        self._note(scores_BLE, chosen_BLk)
        if params.capacity_factor and self.training:
            y_BLkD = self._with_limited_room(x_BLD, chosen_BLk)
        else:
            y_TkD = run_sorted(
                x_BLD.flatten(0, 1),
                chosen_BLk.flatten(0, 1),
                self.experts_in,
                self.experts_out,
                params.activation,
            )
            y_BLkD = y_TkD.view(*chosen_BLk.shape, -1)
        return torch.einsum("blk,blkd->bld", weights_BLk.to(y_BLkD.dtype), y_BLkD)

    def _idle(self, scores_BLE: Tensor) -> Tensor:
        """Return which experts (E) cannot be chosen."""
        return torch.arange(self.params.experts, device=scores_BLE.device) >= (self.active or 0)

    def _bias(self, scores_BLE: Tensor) -> Tensor | None:
        """Return what has a say in the choice beside the scores (E): minus infinity for experts that are idle."""
        if self.active is None:
            return self.selection_bias
        bias_E = scores_BLE.new_zeros(self.params.experts)
        if self.selection_bias is not None:
            bias_E = bias_E + self.selection_bias.to(bias_E.dtype)
        return bias_E.masked_fill(self._idle(scores_BLE), float("-inf"))

    def _note(self, scores_BLE: Tensor, chosen_BLk: Tensor) -> None:
        """Keep the load, and the balance loss of it where one is asked for."""
        experts_E = torch.arange(self.params.experts, device=chosen_BLk.device)
        chosen_BLE = (chosen_BLk.unsqueeze(-1) == experts_E).any(-2)
        load_E = chosen_BLE.flatten(0, 1).to(scores_BLE.dtype).mean(0) / self.params.top_k
        self._told["load"] = load_E
        if self.params.routing == "softmax":
            mean_E = scores_BLE.flatten(0, 1).mean(0)
            self._balance = (self.active or self.params.experts) * (load_E * mean_E).sum()
        elif self.training and self.load_since_update is not None:
            self.load_since_update += load_E

    def _with_limited_room(self, x_BLD: Tensor, chosen_BLk: Tensor) -> Tensor:
        """Run positions through those of their experts that have room; zeros (B, L, k, D) else."""
        (batch, length, top_k), experts = chosen_BLk.shape, self.params.experts
        each = room(self.params.capacity_factor, top_k, length, experts)
        place_BS = places(chosen_BLk, experts, each)
        along_S = torch.arange(length * top_k, device=x_BLD.device) // top_k
        position_BP = place_BS.new_zeros(batch, experts * each + 1)
        position_BP = position_BP.scatter(1, place_BS, along_S.expand(batch, -1))
        position_BEC = torch.unflatten(position_BP[:, :-1], 1, (experts, each))
        y_BECD = run_placed(
            x_BLD, position_BEC, self.experts_in, self.experts_out, self.params.activation
        )
        y_BPD = F.pad(y_BECD.flatten(1, 2), (0, 0, 0, 1))
        y_SD = y_BPD.flatten(0, 1).index_select(0, over_batch(place_BS, experts * each + 1))
        full_BLk = torch.unflatten(place_BS == experts * each, 1, (length, top_k))
        self._told["dropped"] = full_BLk.to(torch.float32).mean()
        self._told["unserved"] = full_BLk.all(-1).to(torch.float32).mean()
        return y_SD.view(batch, length, top_k, -1)

    def _chosen_by_experts(self, x_BLD: Tensor, scores_BLE: Tensor) -> Tensor:
        """Let each expert take its best positions of each sequence."""
        params, (batch, length, _) = self.params, scores_BLE.shape
        each = room(params.capacity_factor or 1.0, params.top_k, length, params.experts)
        weights_BEC, position_BEC = scores_BLE.transpose(1, 2).topk(each, dim=-1)
        y_BECD = run_placed(
            x_BLD, position_BEC, self.experts_in, self.experts_out, params.activation
        )
        weights_BEC = weights_BEC * params.routed_scale
        weighted_BECD = y_BECD * weights_BEC.unsqueeze(-1).to(y_BECD.dtype)
        flat_S = over_batch(position_BEC, length)
        y_TD = y_BECD.new_zeros(batch * length, y_BECD.shape[-1])
        y_TD = y_TD.index_add(0, flat_S, weighted_BECD.flatten(0, 2))
        served_T = flat_S.new_zeros(batch * length).index_fill(0, flat_S, 1)
        self._told["load"] = torch.full_like(scores_BLE[0, 0], 1 / params.experts).detach()
        self._told["unserved"] = 1 - served_T.to(torch.float32).mean()
        return y_TD.view(batch, length, -1)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Run every expert on every position and keep the chosen ones by weights, mostly zero."""
        (x_BLD,) = inputs
        return naive_experts(self, x_BLD)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D), which always finds room."""
        if self.causal(self.params) is False:
            return super().step(state, *inputs_BD)
        (x_BD,) = inputs_BD
        return self(x_BD.unsqueeze(1)).squeeze(1), ()

    def aux_loss(self) -> Tensor | None:
        """Return weight x E x sum over experts of (share of positions x mean probability).

        It is at least ``balance_weight``, which it reaches when all experts get the same.
        """
        if self._balance is None or not self.params.balance_weight:
            return None
        return self.params.balance_weight * self._balance

    @torch.no_grad()
    def after_update(self) -> None:
        """Move the bias of sigmoid routing a step against the load since the last update."""
        if self.selection_bias is not None and self.load_since_update is not None:
            load_E = self.load_since_update[: self.active]
            behind_E = load_E.mean() - load_E
            self.selection_bias[: self.active] += self.params.bias_step * behind_E.sign()
            self.load_since_update.zero_()

    def report(self) -> dict[str, float | list[float]]:
        """Return each expert's share of the load, the largest over the mean, and the entropy.

        ``max_load`` is 1 where all experts work the same; ``router_entropy`` is in nats, at most
        ln(E). Where room is limited, ``dropped`` is the share of choices that found none and
        ``unserved`` the share of positions that no expert worked on, as it is with expert_choice.
        """
        if "load" not in self._told:
            return {}
        told: dict[str, float | list[float]] = {
            name: value.tolist() for name, value in self._told.items()
        }
        load = self._told["load"]
        return told | {"max_load": float(load.max()) * load.numel()}

    def use_experts(self, count: int | None) -> bool:
        """Let the first ``count`` experts alone be chosen; the others neither work nor learn meanwhile."""
        params = self.params
        if count is not None and count < params.experts:
            if params.routing == "expert_choice":
                raise ValueError("experts that choose for themselves are all at work")
            if params.groups > 1:
                raise ValueError("experts in groups are chosen by group, so all must be there")
            if count < params.top_k:
                raise ValueError(f"{params.top_k} experts work on each position")
        self.active = count if count is not None and count < params.experts else None
        return True

    def output_weights(self) -> list[str]:
        """Return the last maps of the chosen experts and of the shared layer."""
        last = ["experts_out"] if self.latent_out is None else ["latent_out.weight"]
        return [*last, "shared_out.weight"] if self.shared_out is not None else last

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept, which belongs to its graph and cannot be copied."""
        return self.__dict__ | {"_balance": None, "_told": {}}

    @classmethod
    def causal(cls, params: Params) -> bool | None:
        """Experts that choose compare all positions; limited room depends on earlier ones."""
        if params.routing == "expert_choice":
            return False
        return True if params.capacity_factor else None

    @classmethod
    def heeds_end(cls, params: Params) -> bool:
        """Experts that choose see all positions; the room that others have follows from the length."""
        return params.routing == "expert_choice" or bool(params.capacity_factor)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where more experts are chosen than there are, or a setting has no effect."""
        yield from check_experts(params)
