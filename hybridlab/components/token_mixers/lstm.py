"""LSTM: a gated recurrence with a protected memory cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import (
    FLOAT32_BYTES,
    BuildContext,
    Component,
    State,
    component,
    field,
)


@component(
    "lstm",
    kind="token_mixer",
    title="LSTM",
    summary="Reads position by position with a gated memory; strong at tracking state.",
    cost="linear",
    paper="https://doi.org/10.1162/neco.1997.9.8.1735",
)
class LSTM(Component):
    """One LSTM layer, (B, L, D) to (B, L, D); S hidden features, projected where S is not the width.

    ``c_t = f_t c_(t-1) + i_t tanh(g_t)`` and ``h_t = o_t tanh(c_t)``, with gates f, i, o = sigmoid(.) and g each
    ``x_t W + h_(t-1) U + b`` with maps of its own.

    Weights start uniform within 1 / sqrt(S), as PyTorch's own layer has them.
    """

    class Params(base.Params):
        """Parameters of ``lstm``."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )

    params: Params
    recurrent_trace = True
    graph_break = "PyTorch's compiler does not take PyTorch's own recurrent layers."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the layer and, where the sizes differ, the map to the width."""
        super().__init__(params, context)
        hidden = params.hidden or context.width
        self.cell = nn.LSTM(context.features, hidden, batch_first=True)
        self.project_out = (
            nn.Identity()
            if hidden == context.width
            else nn.Linear(hidden, context.width, bias=False)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        h_BLS, _ = self.cell(x_BLD)
        y_BLD: Tensor = self.project_out(h_BLS)
        return y_BLD

    def start(self, batch: int) -> State:
        """Return h and c, zeros (B, S)."""
        h_BS = self.cell.all_weights[0][1].new_zeros(batch, self.cell.hidden_size)
        return h_BS, h_BS

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        h_BS, c_BS = torch.lstm_cell(x_BD, state, *self.cell.all_weights[0])
        return self.project_out(h_BS), (h_BS, c_BS)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the gates: c = f c + i g, h = o tanh(c)."""
        (x_BLD,) = inputs
        from_input_GD, from_state_GS, bias_input_G, bias_state_G = self.cell.all_weights[0]
        h_BS = c_BS = x_BLD.new_zeros(x_BLD.shape[0], self.cell.hidden_size)
        rows_BS = []
        for x_BD in x_BLD.unbind(1):
            gates_BG = x_BD @ from_input_GD.T + bias_input_G + h_BS @ from_state_GS.T + bias_state_G
            input_BS, forget_BS, candidate_BS, output_BS = gates_BG.chunk(4, dim=-1)
            c_BS = forget_BS.sigmoid() * c_BS + input_BS.sigmoid() * candidate_BS.tanh()
            h_BS = output_BS.sigmoid() * c_BS.tanh()
            rows_BS.append(h_BS)
        y_BLD: Tensor = self.project_out(torch.stack(rows_BS, 1))
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of h and c."""
        return 2 * (params.hidden or context.width) * FLOAT32_BYTES
