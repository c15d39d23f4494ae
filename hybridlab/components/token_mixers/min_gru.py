"""minGRU: a GRU whose gate and candidate see the input alone, so that all positions run at the same time."""

from __future__ import annotations

from torch import Tensor

from hybridlab.components.base import component
from hybridlab.components.token_mixers.input_gated import InputGated


@component(
    "min_gru",
    kind="token_mixer",
    title="minGRU",
    summary="A GRU without a look at its own state: one gate, and all positions at the same time.",
    cost="linear",
    paper="https://arxiv.org/abs/2410.01201",
)
class MinGRU(InputGated):
    """``h_t = (1 - z_t) h_(t-1) + z_t g(c_t)``, z the sigmoid of a map of the input; (B, L, D) to (B, L, D).

    The candidate c is another map. With g(c) = c + 1/2 from 0 on and sigmoid(c) below, the state stays positive, as in
    the authors' experiments; without it g(c) = c. S features, projected where S is not the width.
    """

    maps = 2

    def kept_log_odds(self, *gates: Tensor) -> Tensor:
        """Return the log odds of 1 - z."""
        (z,) = gates
        return -z

    def shares(self, *gates_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - z and z."""
        z_BS = gates_BS[0].sigmoid()
        return 1 - z_BS, z_BS
