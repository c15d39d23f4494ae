"""minLSTM: an LSTM whose gates see the input alone, so that all positions run at the same time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import component
from hybridlab.components.token_mixers.input_gated import InputGated


@component(
    "min_lstm",
    kind="token_mixer",
    title="minLSTM",
    summary="An LSTM without a look at its own state: two gates, and all positions at the same time.",
    cost="linear",
    paper="https://arxiv.org/abs/2410.01201",
)
class MinLSTM(InputGated):
    """``h_t = f' h_(t-1) + i' g(c_t)`` with f' = f / (f + i) and i' = i / (f + i); (B, L, D) to (B, L, D).

    The gates f and i are sigmoids of maps of the input, and the candidate c is another map. With g(c) = c + 1/2 from 0
    on and sigmoid(c) below, the state stays positive; without it g(c) = c. S features, projected where S is not the
    width.
    """

    maps = 3

    def kept_log_odds(self, *gates: Tensor) -> Tensor:
        """Return log f - log i, so that nothing is 0 / 0."""
        forget, write = gates
        return F.logsigmoid(forget) - F.logsigmoid(write)

    def shares(self, *gates_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return f / (f + i) and i / (f + i)."""
        f_BS, i_BS = (gate_BS.sigmoid() for gate_BS in gates_BS)
        return f_BS / (f_BS + i_BS), i_BS / (f_BS + i_BS)
