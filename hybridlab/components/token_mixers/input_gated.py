"""What minGRU and minLSTM share: one state, gates that see the input alone, a scan over all positions at once."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    FLOAT32_BYTES,
    BuildContext,
    Component,
    State,
    field,
    float_dtype,
)
from hybridlab.components.diagonal_scan import diagonal_scan


class InputGated(Component):
    """``h_t = kept_t h_(t-1) + written_t``, both from the input at t; (B, L, D) to (B, L, D).

    A subclass says how many maps of the input it needs and what they come to. S features, projected where S is not
    the width. https://arxiv.org/abs/2410.01201
    """

    class Params(base.Params):
        """Parameters of a recurrence whose gates see the input alone."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )
        positive: bool = field(True, help="Bend what is written so that the state stays positive.")

    params: Params
    maps: ClassVar[int]
    """Maps of the input: the gates and the candidate."""

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map to gates and candidates and, where the sizes differ, the map to the width."""
        super().__init__(params, context)
        self.hidden = params.hidden or context.width
        self.project_in = nn.Linear(context.features, self.maps * self.hidden)
        self.project_out = (
            nn.Identity()
            if self.hidden == context.width
            else nn.Linear(self.hidden, context.width, bias=False)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        h_BLS = diagonal_scan(*self._parts(x_BLD))
        y_BLD: Tensor = self.project_out(h_BLS.to(x_BLD.dtype))
        return y_BLD

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is kept of the state and what is written, in float32 or better."""
        projected = self.project_in(x)
        *gates, candidate = projected.to(float_dtype(projected)).chunk(self.maps, dim=-1)
        if (
            self.params.positive
        ):  # x + 1/2 from 0 on and sigmoid(x) below: increasing, without a jump
            candidate = F.relu(candidate) + torch.sigmoid(candidate.clamp(max=0))
        kept_log_odds = self.kept_log_odds(*gates)
        return torch.sigmoid(kept_log_odds), torch.sigmoid(-kept_log_odds) * candidate

    def kept_log_odds(self, *gates: Tensor) -> Tensor:
        """Return log(kept / (1 - kept)) from the maps of the gates."""
        raise NotImplementedError

    def start(self, batch: int) -> State:
        """Return h, zeros (B, S)."""
        weight = self.project_in.weight
        return (weight.new_zeros(batch, self.hidden, dtype=float_dtype(weight)),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        kept_BS, written_BS = self._parts(x_BD)
        h_BS = torch.addcmul(written_BS, kept_BS, state[0])
        return self.project_out(h_BS.to(x_BD.dtype)), (h_BS,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through h = kept h + written c, the shares as the paper has them."""
        (x_BLD,) = inputs
        h_BS, rows_BS = x_BLD.new_zeros(x_BLD.shape[0], self.hidden), []
        for row_BP in self.project_in(x_BLD).unbind(1):
            *gates_BS, c_BS = row_BP.chunk(self.maps, dim=-1)
            if self.params.positive:
                c_BS = torch.where(c_BS >= 0, c_BS + 0.5, c_BS.sigmoid())
            kept_BS, share_BS = self.shares(*gates_BS)
            h_BS = kept_BS * h_BS + share_BS * c_BS
            rows_BS.append(h_BS)
        y_BLD: Tensor = self.project_out(torch.stack(rows_BS, 1))
        return y_BLD

    def shares(self, *gates_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares of the old state and of the candidate, in the paper's own words."""
        raise NotImplementedError

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the state."""
        return (params.hidden or context.width) * FLOAT32_BYTES
