"""Spiking neurons: leaky integrate-and-fire, trained through a smooth gradient."""

from __future__ import annotations

import math
from typing import Literal

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
from hybridlab.components.token_mixers.lif_scan import after_spike, lif


@component(
    "spiking_lif",
    kind="token_mixer",
    title="Spiking neurons",
    summary="Leaky neurons add up their input and speak in spikes, all or nothing; trained by a smooth gradient.",
    cost="linear",
    paper="https://arxiv.org/abs/1901.09948",
)
class SpikingLIF(Component):
    """A layer of leaky integrate-and-fire neurons, (B, L, D) to (B, L, D); E neurons.

    ``u_t = decay * kept_(t-1) + W x_t``, a spike where u reaches the threshold, which is then taken off
    what is kept (or sets it to zero); the output is linear in the spikes. The gradient of a spike is
    ``1 / (1 + slope |u - threshold|)^2``, and none flows through the reset.

    A rounding error can move a spike, so currents and potentials are in float32 whatever the weights
    are: only spikes and the map out are in 16 bits.
    """

    class Params(base.Params):
        """Parameters of ``spiking_lif``."""

        neurons: int | None = field(
            None, help="Neurons; empty: the width.", ge=1, le=65_536, unit="neurons"
        )
        decay: float = field(
            0.9,
            help="What a potential keeps from one position to the next, at the start; it is learned "
            "neuron by neuron.",
            gt=0,
            lt=1,
            search=[0.7, 0.9, 0.97],
        )
        threshold: float = field(1.0, help="The potential at which a neuron fires.", gt=0, le=1000)
        slope: float = field(
            2.0,
            help="How narrow the smooth gradient is around the threshold.",
            gt=0,
            le=1000,
            search=[1.0, 2.0, 10.0],
        )
        reset: Literal["subtract", "zero"] = field(
            "subtract", help="What firing does to the potential.", search=["subtract", "zero"]
        )

    params: Params
    recurrent_trace = True
    loops = "Whether a neuron fires decides what it keeps: a step function that no sum over time can replace."
    graph_break = "The loop over time stays in Python; a compiler would unroll every position."

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps with fan-in weights; all neurons start with the same decay."""
        super().__init__(params, context)
        neurons = params.neurons or context.width
        self.project_in = nn.Linear(context.features, neurons)
        logit = math.log(params.decay / (1 - params.decay))
        self.decay_logit = nn.Parameter(torch.full((neurons,), logit))
        self.project_out = nn.Linear(neurons, context.width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Read (B, L, D) from left to right."""
        settings = self.params.threshold, self.params.slope, self.params.reset == "zero"
        current_BLE, decay_E = self._current(x_BLD)
        y_BLD: Tensor = self.project_out(lif(current_BLE, decay_E, *settings).to(x_BLD.dtype))
        return y_BLD

    def _current(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what flows into each neuron (..., E) and the decays (E), in float32 or better."""
        weight, bias = self.project_in.weight, self.project_in.bias
        wide = float_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            current = F.linear(x.to(wide), weight.to(wide), bias.to(wide))
        return current, self.decay_logit.to(wide).sigmoid()

    def start(self, batch: int) -> State:
        """Return the potentials, zeros (B, E)."""
        weight = self.project_in.weight
        return (weight.new_zeros(batch, weight.shape[0], dtype=float_dtype(weight)),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        current_BE, decay_E = self._current(x_BD)
        potential_BE = torch.addcmul(current_BE, decay_E, state[0])
        spikes_BE, kept_BE = after_spike(
            potential_BE, self.params.threshold, self.params.reset == "zero"
        )
        return self.project_out(spikes_BE.to(x_BD.dtype)), (kept_BE,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the equations; a spike is a step with the gradient of a fast sigmoid."""
        (x_BLD,) = inputs
        decay_E = self.decay_logit.sigmoid()
        kept_BE = torch.zeros_like(self.project_in(x_BLD.unbind(1)[0]))
        rows_BE = []
        for x_BD in x_BLD.unbind(1):
            potential_BE = decay_E * kept_BE + self.project_in(x_BD)
            above_BE = potential_BE - self.params.threshold
            step_BE = (above_BE >= 0).to(above_BE.dtype)
            smooth_BE = above_BE / (1 + self.params.slope * above_BE.abs())
            rows_BE.append(step_BE + (smooth_BE - smooth_BE.detach()))
            if self.params.reset == "zero":
                kept_BE = torch.where(step_BE > 0, 0.0, potential_BE)
            else:
                kept_BE = potential_BE - self.params.threshold * step_BE
        y_BLD: Tensor = self.project_out(torch.stack(rows_BE, 1))
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Neurons integrate from left to right."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the potentials."""
        return (params.neurons or context.width) * FLOAT32_BYTES
