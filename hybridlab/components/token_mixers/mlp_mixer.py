"""MLP over positions: each feature's values at all positions go through one small network."""

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
    float_dtype,
)
from hybridlab.errors import Problem, StepError


@component(
    "mlp_mixer",
    kind="token_mixer",
    title="MLP over positions (Mixer)",
    summary="Mixes positions by a network with a weight for each of them, the same for every feature.",
    cost="linear",
    paper="https://arxiv.org/abs/2105.01601",
)
class MLPMixer(Component):
    """``W2 gelu(W x + b) + b2`` along positions, for each feature: (B, L, D) to (B, L, D), H hidden units.

    Weights are made for ``length`` positions; a shorter sequence uses the first of them. Causal: the
    hidden units are spread over the ``length`` positions, unit i standing at floor(i length / H); it sees positions up
    to its own, and is seen from there on, which makes both matrices triangular where H = ``length``.
    """

    class Params(base.Params):
        """Parameters of ``mlp_mixer``."""

        length: int = field(
            1024,
            help="Positions that there are weights for: the longest sequence it can read.",
            ge=1,
            le=65_536,
            unit="positions",
            search=[64, 256, 1024],
        )
        hidden: int = field(
            64,
            help="Hidden units over positions; where causal, as many as length work best.",
            ge=1,
            le=65_536,
            search=[32, 64, 128],
        )
        causal: bool = field(False, help="Hide later positions by masks on both matrices.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps over positions, with fan-in weights, and one over features where sizes differ."""
        super().__init__(params, context)
        self.mix_in = nn.Linear(params.length, params.hidden)
        self.mix_out = nn.Linear(params.hidden, params.length)
        same = context.features == context.width
        self.project_out = nn.Identity() if same else nn.Linear(context.features, context.width)

    def output_weights(self) -> list[str]:
        """Return the map to the width, or where it needs none, the map back to positions."""
        return super().output_weights() or ["mix_out.weight", "mix_out.bias"]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L.

        Raises:
            ValueError: the sequence is longer than ``length``.
        """
        length = x_BLD.shape[1]
        if length > self.params.length:
            raise ValueError(
                f"it has weights for {self.params.length} positions, but the sequence has {length}; "
                f"set length to {length} or more"
            )
        weight_in_HL = self.mix_in.weight[:, :length]
        weight_out_LH = self.mix_out.weight[:length]
        if self.params.causal:
            seen_LH = self._seen(length)
            weight_in_HL = weight_in_HL * self._sees(length)
            weight_out_LH = weight_out_LH * seen_LH
        batch = x_BLD.shape[
            0
        ]  # products by sample: nothing is turned around, which costs more than they do
        hidden_BHD = torch.bmm(weight_in_HL.expand(batch, -1, -1), x_BLD)
        hidden_BHD = F.gelu(hidden_BHD + self.mix_in.bias[:, None])
        mixed_BLD = torch.bmm(weight_out_LH.expand(batch, -1, -1), hidden_BHD)
        y_BLD: Tensor = self.project_out(mixed_BLD + self.mix_out.bias[:length, None])
        return y_BLD

    def _places(self) -> Tensor:
        """Return the position at which each hidden unit stands where causal, (H)."""
        units_H = torch.arange(self.params.hidden, device=self.mix_in.weight.device)
        return units_H * self.params.length // self.params.hidden

    def _sees(self, length: int) -> Tensor:
        """Say which positions each hidden unit sees, as ones and zeros (H, L)."""
        positions_L = torch.arange(length, device=self.mix_in.weight.device)
        return (positions_L <= self._places()[:, None]).to(self.mix_in.weight.dtype)

    def _seen(self, length: int) -> Tensor:
        """Say from which positions each hidden unit is seen, as ones and zeros (L, H)."""
        positions_L = torch.arange(length, device=self.mix_in.weight.device)
        return (self._places() <= positions_L[:, None]).to(self.mix_in.weight.dtype)

    def start(self, batch: int) -> State:
        """Return the position and what each hidden unit has gathered, its bias (B, D, H)."""
        weight, bias_H = self.mix_in.weight, self.mix_in.bias
        position = torch.zeros((), dtype=torch.int64, device=weight.device)
        sizes = (batch, self.context.features, self.params.hidden)
        return position, bias_H.to(float_dtype(weight)).expand(sizes).clone()

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D): add it to the hidden units that see it, and read those that stand before.

        Raises:
            StepError: not causal, or past the last position that there are weights for.
        """
        if not self.params.causal:
            raise StepError("a mixer that looks ahead cannot run one position at a time")
        (x_BD,) = inputs_BD
        position, gathered_BDH = state
        if int(position) >= self.params.length:
            raise StepError(f"there are weights for {self.params.length} positions only")
        wide, places_H = gathered_BDH.dtype, self._places()
        column_H = self.mix_in.weight.index_select(1, position[None]).squeeze(1).to(wide)
        row_H = self.mix_out.weight.index_select(0, position[None]).squeeze(0).to(wide)
        column_H = column_H * (position <= places_H)
        row_H = row_H * (places_H <= position)
        gathered_BDH = torch.addcmul(gathered_BDH, x_BD.unsqueeze(-1).to(wide), column_H)
        bias = self.mix_out.bias.index_select(0, position[None]).to(wide)
        y_BD = (F.gelu(gathered_BDH) @ row_H + bias).to(x_BD.dtype)
        return self.project_out(y_BD), (position + 1, gathered_BDH)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute hidden unit by hidden unit and position by position, each from what it may see."""
        (x_BLD,) = inputs
        places = [i * self.params.length // self.params.hidden for i in range(self.params.hidden)]
        length, causal = x_BLD.shape[1], self.params.causal
        units_BD = []
        for unit, place in enumerate(places):
            end = min(length, place + 1) if causal else length
            weights_L1 = self.mix_in.weight[unit, :end, None]
            z_BD = (weights_L1 * x_BLD[:, :end]).sum(1) + self.mix_in.bias[unit]
            units_BD.append(z_BD * 0.5 * (1 + torch.erf(z_BD / math.sqrt(2))))
        units_HBD = torch.stack(units_BD)
        rows_BD = []
        for t in range(length):
            visible = sum(place <= t for place in places) if causal else len(places)
            weights_H11 = self.mix_out.weight[t, :visible, None, None]
            rows_BD.append((weights_H11 * units_HBD[:visible]).sum(0) + self.mix_out.bias[t])
        y_BLD: Tensor = self.project_out(torch.stack(rows_BD, 1))
        return y_BLD

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the sequence is known to be longer than the weights."""
        length = context.inputs[0].shape[1]
        if isinstance(length, int) and length > params.length:
            yield Problem(
                "length",
                "there is no weight for the positions past it",
                f"at least {length}",
                str(params.length),
                f"set length to {length}",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter."""
        return params.causal

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of what the hidden units have gathered for each feature, where causal."""
        return params.hidden * context.features * FLOAT32_BYTES if params.causal else 0.0
