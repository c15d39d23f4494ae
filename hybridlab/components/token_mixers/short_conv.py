"""Short convolution: neighbours mixed feature by feature, optionally between two gates."""

from __future__ import annotations

from typing import Literal

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
from hybridlab.components.depthwise import DepthwiseConv


@component(
    "short_conv",
    kind="token_mixer",
    title="Short convolution (LFM2)",
    summary="LFM2's gated convolution: mixes a few neighbours, feature by feature, between gates of the input.",
    cost="linear",
    paper="https://arxiv.org/abs/2511.23404",
)
class ShortConv(Component):
    """``C * conv(B * x)`` with B, C and x linear in the input, as in LFM2; (B, L, D) to (B, L, D).

    LFM2 itself has ``kernel: 3`` and ``bias: none``. Without gates: the depthwise convolution alone,
    and a map to the width where the sizes differ.
    """

    class Params(base.Params):
        """Parameters of ``short_conv``."""

        kernel: int = field(4, help="Taps.", ge=1, le=256, unit="positions", search=[3, 4, 7])
        causal: bool = field(True, help="See earlier positions only; otherwise both sides.")
        gated: bool = field(True, help="Gate before and after; otherwise the convolution alone.")
        bias: Literal["conv", "all", "none"] = field(
            "conv",
            help="What has a bias: the convolution, the maps in and out too, or nothing (LFM2).",
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the convolution and, where gated, the maps in and out."""
        super().__init__(params, context)
        inner = context.width if params.gated else context.features
        maps = params.bias == "all"
        self.conv = DepthwiseConv(
            inner, params.kernel, causal=params.causal, bias=params.bias != "none"
        )
        self.project_in = (
            nn.Linear(context.features, 3 * inner, bias=maps) if params.gated else None
        )
        self.project_out = (
            nn.Linear(inner, context.width, bias=maps)
            if params.gated or inner != context.width
            else nn.Identity()
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        if self.project_in is None:
            plain_BLD: Tensor = self.project_out(self.conv(x_BLD))
            return plain_BLD
        before_BLD, after_BLD, value_BLD = self.project_in(x_BLD).chunk(3, dim=-1)
        y_BLD: Tensor = self.project_out(after_BLD * self.conv(before_BLD * value_BLD))
        return y_BLD

    def start(self, batch: int) -> State:
        """Return the convolution's last inputs, zeros."""
        return (self.conv.start(batch),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        if self.project_in is None:
            plain_BD, before = self.conv.step(state[0], x_BD)
            return self.project_out(plain_BD), (before,)
        before_BD, after_BD, value_BD = self.project_in(x_BD).chunk(3, dim=-1)
        mixed_BD, before = self.conv.step(state[0], before_BD * value_BD)
        return self.project_out(after_BD * mixed_BD), (before,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the same with taps added up position by position."""
        (x_BLD,) = inputs
        if self.project_in is None:
            plain_BLD: Tensor = self.project_out(self.conv.reference(x_BLD))
            return plain_BLD
        before_BLD, after_BLD, value_BLD = self.project_in(x_BLD).chunk(3, dim=-1)
        y_BLD: Tensor = self.project_out(after_BLD * self.conv.reference(before_BLD * value_BLD))
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Follow the parameter; one or two taps do not reach forward even when centred."""
        return params.causal or params.kernel <= 2

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the last inputs that the taps still need."""
        inner = context.width if params.gated else context.features
        return (params.kernel - 1) * inner * FLOAT32_BYTES
