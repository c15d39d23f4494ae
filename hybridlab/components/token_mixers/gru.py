"""GRU: a gated recurrence with one state."""

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
    "gru",
    kind="token_mixer",
    title="GRU",
    summary="Reads position by position with one gated state; lighter than an LSTM.",
    cost="linear",
    paper="https://arxiv.org/abs/1406.1078",
)
class GRU(Component):
    """One GRU layer, (B, L, D) to (B, L, D); S hidden features, projected where S is not the width.

    ``h_t = z_t h_(t-1) + (1 - z_t) tanh(x_t W + b + r_t (h_(t-1) U + c))``, with gates z and r each
    ``sigmoid(x_t W + h_(t-1) U + b)`` with maps of its own. The reset gate acts after the recurrent map,
    as PyTorch's own layer has it (https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html).
    """

    class Params(base.Params):
        """Parameters of ``gru``."""

        hidden: int | None = field(
            None, help="Features of the state; empty: the width.", ge=1, le=65_536, unit="features"
        )

    params: Params
    recurrent_trace = True
    graph_break = "PyTorch's compiler does not take PyTorch's own recurrent layers."
    loops = "PyTorch's own layer unrolls time on the CPU: each gate depends on the state before it."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the layer and, where the sizes differ, the map to the width."""
        super().__init__(params, context)
        hidden = params.hidden or context.width
        self.cell = nn.GRU(context.features, hidden, batch_first=True)
        self.project_out = (
            nn.Identity()
            if hidden == context.width
            else nn.Linear(hidden, context.width, bias=False)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        y_BLD: Tensor = self.project_out(self._read(x_BLD))
        return y_BLD

    def _read(self, x_BLD: Tensor) -> Tensor:
        """Return the states (B, L, S); on a CPU under autocast each weight is cast once, not at every position."""
        if x_BLD.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            h_BLS: Tensor = self.cell(x_BLD)[0]
            return h_BLS
        narrow = torch.get_autocast_dtype("cpu")
        start_BS = x_BLD.new_zeros(1, x_BLD.shape[0], self.cell.hidden_size)
        weights = [weight.to(narrow) for weight in self.cell.all_weights[0]]
        return torch.gru(x_BLD, start_BS, weights, True, 1, 0.0, self.training, False, True)[0]

    def start(self, batch: int) -> State:
        """Return h, zeros (B, S)."""
        return (self.cell.all_weights[0][1].new_zeros(batch, self.cell.hidden_size),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        h_BS = torch.gru_cell(x_BD, state[0], *self.cell.all_weights[0])
        return self.project_out(h_BS), (h_BS,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the gates: n = tanh(x + r h), h = (1 - z) n + z h."""
        (x_BLD,) = inputs
        from_input_GD, from_state_GS, bias_input_G, bias_state_G = self.cell.all_weights[0]
        h_BS = x_BLD.new_zeros(x_BLD.shape[0], self.cell.hidden_size)
        rows_BS = []
        for x_BD in x_BLD.unbind(1):
            from_input_BG = x_BD @ from_input_GD.T + bias_input_G
            from_state_BG = h_BS @ from_state_GS.T + bias_state_G
            reset_x, update_x, new_x = from_input_BG.chunk(3, dim=-1)
            reset_h, update_h, new_h = from_state_BG.chunk(3, dim=-1)
            update_BS = (update_x + update_h).sigmoid()
            new_BS = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
            h_BS = (1 - update_BS) * new_BS + update_BS * h_BS
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
