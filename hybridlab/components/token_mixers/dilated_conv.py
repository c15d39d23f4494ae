"""Dilated convolution: taps with gaps between them, so that a few reach far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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
    must_divide,
)
from hybridlab.errors import Problem, StepError

Bend = Literal["relu", "gelu", "wavenet"]
_FEW_TAPS = 8
_PAST_CACHES = 2**21
"""Numbers of an input past which a processor's caches do not help: there products by tap take four fifths of the time
of the convolution, which rearranges what it reads; below, nine eighths."""

_BENDS: Mapping[Bend, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "wavenet": lambda x: _wavenet(*x.unbind(-2)),
}
_FORMULAS: Mapping[Bend, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x * (x > 0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "wavenet": lambda x: x[..., 0, :].tanh() / (1 + (-x[..., 1, :]).exp()),
}


def _wavenet(filter_BLD: Tensor, gate_BLD: Tensor) -> Tensor:
    """Gate (..., D) by (..., D)."""
    return filter_BLD.tanh() * gate_BLD.sigmoid()


@component(
    "dilated_conv",
    kind="token_mixer",
    title="Dilated convolution (TCN)",
    summary="Convolves positions that lie a fixed distance apart; layers of growing distance reach far.",
    cost="linear",
    paper="https://arxiv.org/abs/1803.01271",
)
class DilatedConv(Component):
    """``act(sum_j h_j x_(t - j dilation) + b) W``, (B, L, D) to (B, L, D), as in TCN and WaveNet.

    Layers with dilations 1, 2, 4 ... see twice as far each. ``wavenet`` gates with a second filter, tanh(f)
    sigmoid(g): https://arxiv.org/abs/1609.03499. Groups of features may have filters of their own.
    """

    class Params(base.Params):
        """Parameters of ``dilated_conv``."""

        kernel: int = field(3, help="Taps.", ge=1, le=256, unit="positions", search=[2, 3, 5])
        dilation: int = field(
            1,
            help="Distance between taps; double it from layer to layer.",
            ge=1,
            le=65_536,
            unit="positions",
            search=[1, 2, 4, 8],
        )
        groups: int | None = field(
            1,
            help="Groups of features that mix among themselves; 1: all; empty: each feature alone.",
            ge=1,
            le=65_536,
        )
        activation: Bend = field(
            "relu",
            help="The bend after the convolution; wavenet gates it with a second one.",
            search=["relu", "wavenet"],
        )
        causal: bool = field(True, help="See earlier positions only; otherwise both sides.")

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the filters (features out, taps of one group) and the map out, with fan-in weights."""
        super().__init__(params, context)
        features = context.features
        self.groups = params.groups or features
        fan_in = features // self.groups * params.kernel
        filters = 2 * features if params.activation == "wavenet" else features
        bound = 1 / math.sqrt(fan_in)
        self.taps = nn.Parameter(torch.empty(filters, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(filters).uniform_(-bound, bound))
        before = params.kernel - 1 if params.causal else params.kernel // 2
        self.left = before * params.dilation
        self.right = (params.kernel - 1 - before) * params.dilation
        self.project_out = nn.Linear(features, context.width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        padded_BSD = F.pad(x_BLD, (0, 0, self.left, self.right))
        few = self.groups == 1 and self.params.kernel <= _FEW_TAPS
        large = x_BLD.device.type == "cpu" and x_BLD.numel() >= _PAST_CACHES
        return self._bent(self._by_taps(padded_BSD) if few and large else self._image(padded_BSD))

    def _image(self, padded_BSD: Tensor) -> Tensor:
        """Convolve the sequence, (B, S, D) to (B, L, F), as an image one pixel high."""
        filters_FD1K = torch.unflatten(self.taps, 1, (-1, 1, self.params.kernel))
        y_BF1L = F.conv2d(
            padded_BSD.transpose(1, 2).unsqueeze(2),
            filters_FD1K,
            self.bias,
            dilation=(1, self.params.dilation),
            groups=self.groups,
        )
        return y_BF1L.squeeze(2).transpose(1, 2)

    def _by_taps(self, padded_BSD: Tensor) -> Tensor:
        """Add up a product of matrices for each tap of one group, (B, S, D) to (B, L, F)."""
        batch, size, _ = padded_BSD.shape
        length = size - self.left - self.right
        filters_KDF = torch.unflatten(self.taps, 1, (-1, self.params.kernel)).permute(2, 1, 0)
        y_BLF: Tensor = self.bias
        for j, filter_DF in enumerate(filters_KDF.unbind()):
            moved_BLD = padded_BSD.narrow(1, j * self.params.dilation, length)
            y_BLF = torch.baddbmm(y_BLF, moved_BLD, filter_DF.expand(batch, -1, -1))
        return y_BLF

    def _bent(
        self, y_BLF: Tensor, bends: Mapping[Bend, Callable[[Tensor], Tensor]] = _BENDS
    ) -> Tensor:
        """Bend each group's outputs, a wavenet's as filter and gate (..., G, 2, D / G), and map them."""
        bend = bends[self.params.activation]
        if self.params.activation == "wavenet":
            bent_BLD = bend(torch.unflatten(y_BLF, -1, (self.groups, 2, -1))).flatten(-2)
        else:
            bent_BLD = bend(y_BLF)
        out_BLD: Tensor = self.project_out(bent_BLD)
        return out_BLD

    def start(self, batch: int) -> State:
        """Return the inputs that taps reach back to, zeros (B, left, D)."""
        return (self.taps.new_zeros(batch, self.left, self.context.features),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D).

        Raises:
            StepError: taps reach forward.
        """
        if self.right:
            raise StepError("a centred convolution cannot run one position at a time")
        (x_BD,) = inputs_BD
        seen_BSD = torch.cat((state[0], x_BD.unsqueeze(1)), dim=1)
        tapped_BKD = seen_BSD[:, :: self.params.dilation]
        window_BDK = torch.unflatten(tapped_BKD.transpose(1, 2), 1, (self.groups, -1)).flatten(2)
        filters_GFK = torch.unflatten(self.taps, 0, (self.groups, -1))
        y_BGF = torch.einsum("bgk,gfk->bgf", window_BDK, filters_GFK)
        return self._bent(y_BGF.flatten(1) + self.bias), (seen_BSD[:, 1:].clone(),)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up the taps, each on the sequence moved by its distance, group by group."""
        (x_BLD,) = inputs
        length, kernel = x_BLD.shape[1], self.params.kernel
        nothing_BLD = torch.zeros_like(x_BLD)
        around_BSD = torch.cat((nothing_BLD, x_BLD, nothing_BLD), dim=1)
        groups_BSD = around_BSD.chunk(self.groups, dim=-1)
        filters_FK = self.taps.chunk(self.groups, dim=0)
        parts_BLF = []
        for group_BSD, taps_FK in zip(groups_BSD, filters_FK, strict=True):
            part_BLF = x_BLD.new_zeros(*x_BLD.shape[:2], taps_FK.shape[0])
            for j in range(kernel):
                first = length + j * self.params.dilation - self.left
                if 0 < first < 2 * length:
                    moved_BLD = group_BSD[:, first : first + length]
                    part_BLF = part_BLF + moved_BLD @ taps_FK[:, j::kernel].T
            parts_BLF.append(part_BLF)
        return self._bent(torch.cat(parts_BLF, dim=-1) + self.bias, _FORMULAS)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where groups do not divide the features."""
        if params.groups is not None:
            yield from must_divide("groups", params.groups, context.features, "the features,")

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter; one or two taps do not reach forward even when centred."""
        return params.causal or params.kernel <= 2

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the inputs that taps reach back to."""
        before = params.kernel - 1 if params.causal else params.kernel // 2
        return before * params.dilation * context.features * FLOAT32_BYTES
