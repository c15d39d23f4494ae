"""minLSTM: an LSTM whose gates see the input alone, so that all positions run at the same time."""

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
from hybridlab.components.token_mixers.min_gru import positive


@component(
    "min_lstm",
    kind="token_mixer",
    title="minLSTM",
    summary="An LSTM without a look at its own state: two gates, and all positions at the same time.",
    cost="linear",
    paper="https://arxiv.org/abs/2410.01201",
)
class MinLSTM(Component):
    """``h_t = f' h_(t-1) + i' g(c_t)`` with f' = f / (f + i) and i' = i / (f + i); (B, L, D) to (B, L, D).

    The gates f and i are sigmoids of maps of the input, and the candidate c is another map. With g(c) = c + 1/2 from 0
    on and sigmoid(c) below, the state stays positive; without it g(c) = c. S features, projected where S is not the
    width.
    """

    class Params(base.Params):
        """Parameters of ``min_lstm``."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )
        positive: bool = field(True, help="Bend what is written so that the state stays positive.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the map to gates and candidates and, where the sizes differ, the map to the width."""
        super().__init__(params, context)
        self.hidden = params.hidden or context.width
        self.project_in = nn.Linear(context.features, 3 * self.hidden)
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
        """Return f' and i' g(c) in float32 or better; both are sigmoids of log f - log i, so nothing is 0 / 0."""
        forget, write, candidate = (
            part.to(float_dtype(part)) for part in self.project_in(x).chunk(3, dim=-1)
        )
        if self.params.positive:
            candidate = positive(candidate)
        more_kept = F.logsigmoid(forget) - F.logsigmoid(write)
        return torch.sigmoid(more_kept), torch.sigmoid(-more_kept) * candidate

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
        """Step through h = f' h + i' g(c)."""
        (x_BLD,) = inputs
        h_BS, rows_BS = x_BLD.new_zeros(x_BLD.shape[0], self.hidden), []
        for row_BP in self.project_in(x_BLD).unbind(1):
            forget_BS, write_BS, c_BS = row_BP.chunk(3, dim=-1)
            f_BS, i_BS = forget_BS.sigmoid(), write_BS.sigmoid()
            if self.params.positive:
                c_BS = torch.where(c_BS >= 0, c_BS + 0.5, c_BS.sigmoid())
            h_BS = f_BS / (f_BS + i_BS) * h_BS + i_BS / (f_BS + i_BS) * c_BS
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
