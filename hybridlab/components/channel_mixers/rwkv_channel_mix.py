"""RWKV's channel mix: a feed-forward layer that also sees the position before."""

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
)
from hybridlab.components.channel_mixers.hidden_size import hidden_size
from hybridlab.components.token_shift import previous, shares


@component(
    "rwkv_channel_mix",
    kind="channel_mixer",
    title="RWKV channel mix",
    summary="Feed-forward layer with squared ReLU that sees its input and the one before it.",
    cost="linear",
    paper="https://arxiv.org/abs/2305.13048",
)
class RWKVChannelMix(Component):
    """``sigmoid(x' Wr) * (relu(x'' Wk)^2 Wv)``, (B, L, D) to (B, L, D), hidden features F.

    x' and x'' are mixes of the input and the one before it, feature by feature. With the receptance that
    is the channel mix of RWKV-4, 5 and 6 (https://arxiv.org/abs/2404.05892), without it that of
    RWKV-7 (https://arxiv.org/abs/2503.14456).
    """

    class Params(base.Params):
        """Parameters of ``rwkv_channel_mix``."""

        ratio: float = field(
            4.0,
            help="Hidden features per feature of the width, rounded to a multiple of 8.",
            gt=0,
            le=32,
            unit="x width",
            search=[2.0, 3.5, 4.0],
        )
        receptance: bool = field(
            True, help="Gate the output, as RWKV-4 to 6 do; RWKV-7 does not.", search=[True, False]
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps and the shares of the position before, which fall from one to zero over the features."""
        super().__init__(params, context)
        hidden = hidden_size(params.ratio, context.width)
        self.key_shift = nn.Parameter(shares(context.features, 1.0))
        self.key = nn.Linear(context.features, hidden, bias=False)
        self.value = nn.Linear(hidden, context.width, bias=False)
        self.receptance = None
        if params.receptance:
            self.receptance_shift = nn.Parameter(shares(context.features, 1.0))
            self.receptance = nn.Linear(context.features, context.width, bias=False)

    def output_weights(self) -> list[str]:
        """Return the map from hidden features."""
        return ["value.weight"]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix the features of each position of (B, L, D) and of the one before it."""
        return self._mixed(x_BLD, previous(x_BLD))

    def _mixed(self, x: Tensor, before: Tensor) -> Tensor:
        """Return the output (..., D) for the input and the one before it."""
        change = before - x
        hidden = F.relu(self.key(torch.addcmul(x, change, self.key_shift.to(x.dtype)))).square()
        y: Tensor = self.value(hidden)
        if self.receptance is None:
            return y
        asked: Tensor = self.receptance(torch.addcmul(x, change, self.receptance_shift.to(x.dtype)))
        return asked.sigmoid() * y

    def start(self, batch: int) -> State:
        """Return the input before the first, zeros (B, D)."""
        return (self.key.weight.new_zeros(batch, self.context.features),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        return self._mixed(x_BD, state[0]), (x_BD,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the paper's equations position by position."""
        (x_BLD,) = inputs
        before_BD = torch.zeros_like(x_BLD.unbind(1)[0])
        rows_BD = []
        for x_BD in x_BLD.unbind(1):
            key_BD = x_BD * (1 - self.key_shift) + before_BD * self.key_shift
            hidden_BF = key_BD @ self.key.weight.T
            y_BD = (hidden_BF * hidden_BF * (hidden_BF > 0)) @ self.value.weight.T
            if self.receptance is not None:
                share_D = self.receptance_shift
                asked_BD = x_BD * (1 - share_D) + before_BD * share_D
                y_BD = y_BD / (1 + (-(asked_BD @ self.receptance.weight.T)).exp())
            rows_BD.append(y_BD)
            before_BD = x_BD
        return torch.stack(rows_BD, 1)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """It sees the position before, and nothing after."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the last input."""
        return context.features * FLOAT32_BYTES
