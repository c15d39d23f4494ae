"""Leaky integrate-and-fire neurons over time as one differentiable step.

A spike is a step function of the potential, whose gradient is zero almost everywhere. Backward puts a
smooth one in its place, 1 / (1 + slope |potential - threshold|)^2 (https://arxiv.org/abs/1901.09948;
the fast sigmoid of SuperSpike, https://arxiv.org/abs/1705.11146), and no gradient flows through the reset.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.compiler.disable  # type: ignore[untyped-decorator]
def lif(
    current_BLE: Tensor, decay_E: Tensor, threshold: float, slope: float, to_zero: bool
) -> Tensor:
    """Integrate currents and return spikes, zeros and ones (B, L, E).

    Args:
        current_BLE: what flows in, (B, L, E), in float32 or better.
        decay_E: what a potential keeps from one position to the next, in the same dtype.
        threshold: the potential at which a neuron fires.
        slope: how narrow the smooth gradient is around the threshold.
        to_zero: whether firing sets the potential to zero; otherwise it takes the threshold off.
    """
    spikes_BLE: Tensor = _LIF.apply(current_BLE, decay_E, threshold, slope, to_zero)  # type: ignore[no-untyped-call]
    return spikes_BLE


def after_spike(potential: Tensor, threshold: float, to_zero: bool) -> tuple[Tensor, Tensor]:
    """Return the spikes of these potentials, zeros and ones, and what the potentials are afterwards."""
    spikes = (potential >= threshold).to(potential.dtype)
    if to_zero:
        return spikes, potential * (1 - spikes)
    return spikes, torch.sub(potential, spikes, alpha=threshold)


class _LIF(torch.autograd.Function):
    """u_t = decay kept_(t-1) + current_t; backward steps through dL/du from right to left."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, decay: Tensor, threshold: float, slope: float, to_zero: bool
    ) -> Tensor:
        kept = torch.zeros_like(current[:, 0])
        rows = []
        for flows_in in current.unbind(1):
            potential = torch.addcmul(flows_in, decay, kept)
            rows.append(potential)
            _, kept = after_spike(potential, threshold, to_zero)
        potentials = torch.stack(rows, 1)
        ctx.save_for_backward(potentials, decay)
        ctx.settings = threshold, slope, to_zero
        return after_spike(potentials, threshold, to_zero)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        potentials, decay = ctx.saved_tensors
        threshold, slope, to_zero = ctx.settings
        spikes, kept = after_spike(potentials, threshold, to_zero)
        direct = grad / (1 + slope * (potentials - threshold).abs()).square()
        passes = decay * (1 - spikes) if to_zero else decay.expand_as(potentials)
        row = torch.zeros_like(decay.expand_as(potentials[:, 0]))
        rows = []
        for own, through in zip(
            reversed(direct.unbind(1)), reversed(passes.unbind(1)), strict=True
        ):
            row = torch.addcmul(own, through, row)
            rows.append(row)
        grad_current = torch.stack(rows[::-1], 1)
        grad_decay = (grad_current * F.pad(kept, (0, 0, 1, -1))).sum((0, 1))
        return grad_current, grad_decay, None, None, None
