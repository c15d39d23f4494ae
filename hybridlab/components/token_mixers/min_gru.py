"""minGRU: a GRU whose gate and candidate see the input alone, so that all positions run at the same time."""

from __future__ import annotations

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
from hybridlab.components.diagonal_scan import diagonal_scan


@component(
    "min_gru",
    kind="token_mixer",
    title="minGRU",
    summary="A GRU without a look at its own state: one gate, and all positions at the same time.",
    cost="linear",
    paper="https://arxiv.org/abs/2410.01201",
)
class MinGRU(Component):
    """``h_t = (1 - z_t) h_(t-1) + z_t g(c_t)``, z the sigmoid of a map of the input; (B, L, D) to (B, L, D).

    The candidate c is another map. With g(c) = c + 1/2 from 0 on and sigmoid(c) below, the state stays positive, as in
    the authors' experiments; without it g(c) = c. S features, projected where S is not the width.
    """

    class Params(base.Params):
        """Parameters of ``min_gru``."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )
        positive: bool = field(True, help="Bend what is written so that the state stays positive.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map to gates and candidates and, where the sizes differ, the map to the width."""
        super().__init__(params, context)
        self.hidden = params.hidden or context.width
        self.project_in = nn.Linear(context.features, 2 * self.hidden)
        self.project_out = (
            nn.Identity()
            if self.hidden == context.width
            else nn.Linear(self.hidden, context.width, bias=False)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        kept_BLS, written_BLS = self._parts(x_BLD)
        h_BLS = diagonal_scan(kept_BLS, written_BLS)
        y_BLD: Tensor = self.project_out(h_BLS.to(x_BLD.dtype))
        return y_BLD

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is kept of the state, 1 - z, and what is written, z g(c), in float32 or better."""
        gate, candidate = self.project_in(x).chunk(2, dim=-1)
        gate, candidate = (part.to(float_dtype(part)) for part in (gate, candidate))
        if self.params.positive:
            candidate = positive(candidate)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * candidate

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
        """Step through h = (1 - z) h + z g(c)."""
        (x_BLD,) = inputs
        gates_BLS, candidates_BLS = self.project_in(x_BLD).chunk(2, dim=-1)
        h_BS, rows_BS = x_BLD.new_zeros(x_BLD.shape[0], self.hidden), []
        for gate_BS, c_BS in zip(gates_BLS.unbind(1), candidates_BLS.unbind(1), strict=True):
            z_BS = gate_BS.sigmoid()
            if self.params.positive:
                c_BS = torch.where(c_BS >= 0, c_BS + 0.5, c_BS.sigmoid())
            h_BS = (1 - z_BS) * h_BS + z_BS * c_BS
            rows_BS.append(h_BS)
        y_BLD: Tensor = self.project_out(torch.stack(rows_BS, 1))
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the state."""
        return (params.hidden or context.width) * FLOAT32_BYTES


def positive(x: Tensor) -> Tensor:
    """Return x + 1/2 from 0 on and sigmoid(x) below: positive, increasing, without a jump."""
    return F.relu(x) + torch.sigmoid(x.clamp(max=0))
