"""Hyena: gates and long convolutions in turn, whose filters a small network draws."""

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
from hybridlab.components.channel_major import (
    Layout,
    convolve_rows,
    into_channels,
    out_of_channels,
)
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.growing import appended
from hybridlab.components.token_mixers.long_convolution import (
    ImplicitFilter,
    convolve,
    convolve_directly,
    last_value,
)


@component(
    "hyena",
    kind="token_mixer",
    title="Hyena",
    summary="Gates and convolutions as long as the sequence in turn, with filters a small network draws.",
    cost="linear·log",
    paper="https://arxiv.org/abs/2302.10866",
)
class Hyena(Component):
    """Hyena operator of order N, (B, L, D) to (B, L, D).

    N + 1 projections, each through a short convolution: gates x_0 to x_(N-1) and a value v. Then, as
    in the authors' code, ``v <- h_i * (x_i v) + skip_i (x_i v)`` for i = N - 1 down to 1, where ``*`` is
    the causal convolution, and ``y = (x_0 v) W``. Order 2 is H3's form with drawn filters.

    One position at a time, the N - 1 convolutions read all that came before: the history of their
    inputs grows with each token, and a step costs as much as the history is long.
    """

    class Params(base.Params):
        """Parameters of ``hyena``."""

        order: int = field(
            2, help="Gates; one less is the number of long convolutions.", ge=2, le=8, search=[2, 3]
        )
        conv: int = field(
            3,
            help="Taps of the short convolution on all projections.",
            ge=1,
            le=64,
            unit="positions",
        )
        length: int = field(
            256,
            help="Positions in which filters fade, about the task's length; longer sequences work.",
            ge=1,
            le=1_048_576,
            unit="positions",
            search=[64, 256, 1024],
        )
        hidden: int = field(
            32, help="Hidden units of the network that draws the filters.", ge=1, le=4096
        )
        bands: int = field(
            8, help="Frequencies of the position that this network reads.", ge=0, le=1024
        )
        frequency: float = field(
            1.0,
            help="Factor in the network's sines; larger draws rougher filters.",
            gt=0,
            le=100,
            search=[1.0, 4.0, 10.0],
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps, the short convolution, the filters and the skips, which start as N(0, 1)."""
        super().__init__(params, context)
        width, filters = context.width, params.order - 1
        self.project_in = nn.Linear(context.features, (params.order + 1) * width)
        self.conv = DepthwiseConv((params.order + 1) * width, params.conv)
        self.filter = ImplicitFilter(
            filters * width, params.hidden, params.bands, params.frequency, params.length
        )
        self.skip = nn.Parameter(torch.randn(filters * width))
        self.project_out = nn.Linear(width, width)
        self.layout: Layout = "tokens"

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        if self.layout == "channels":
            return self._in_channels(x_BLD)
        gates_BLD, v_BLD = self._parts(self.conv(self.project_in(x_BLD)))
        filters = self._filters(self.filter(x_BLD.shape[1]))
        for gate_BLD, (taps_LD, skip_D) in zip(gates_BLD[:0:-1], filters, strict=True):
            gated_BLD = gate_BLD * v_BLD
            v_BLD = torch.addcmul(convolve(gated_BLD, taps_LD), gated_BLD, skip_D)
        y_BLD: Tensor = self.project_out(gates_BLD[0] * v_BLD)
        return y_BLD

    def _in_channels(self, x_BLD: Tensor) -> Tensor:
        """Do the same with the positions of each feature side by side, as the transform reads them."""
        conv = self.conv
        mixed_PBL = convolve_rows(
            into_channels(self.project_in, x_BLD), conv.taps, conv.bias, conv.left
        )
        *gates_DBL, v_DBL = mixed_PBL.chunk(self.params.order + 1)
        filters = self._filters(self.filter(x_BLD.shape[1]))
        for gate_DBL, (taps_LD, skip_D) in zip(gates_DBL[:0:-1], filters, strict=True):
            gated_DBL = gate_DBL * v_DBL
            mixed_DBL = convolve(gated_DBL, taps_LD.T.unsqueeze(1), along=-1)
            v_DBL = torch.addcmul(mixed_DBL, gated_DBL, skip_D[:, None, None])
        return out_of_channels(self.project_out, gates_DBL[0] * v_DBL)

    def _parts(self, projected: Tensor) -> tuple[list[Tensor], Tensor]:
        """Split (..., (N + 1) D) into N gates and the value."""
        *gates, value = projected.chunk(self.params.order + 1, dim=-1)
        return gates, value

    def _filters(self, taps_KF: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Split the filters of all convolutions and their skips into (K, D) and (D) for each."""
        filters = self.params.order - 1
        return list(zip(taps_KF.chunk(filters, -1), self.skip.chunk(filters), strict=True))

    def start(self, batch: int) -> State:
        """Return the short convolution's last inputs, zeros, and N - 1 empty histories (B, 0, D)."""
        empty_BSD = self.skip.new_zeros(batch, 0, self.context.width)
        return self.conv.start(batch), *(empty_BSD,) * (self.params.order - 1)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D): append to the histories and convolve them."""
        (x_BD,) = inputs_BD
        before, *histories = state
        projected_BP, before = self.conv.step(before, self.project_in(x_BD))
        gates_BD, v_BD = self._parts(projected_BP)
        filters = self._filters(self.filter(histories[0].shape[1] + 1))
        after = []
        for gate_BD, (taps_SD, skip_D), history_BSD in zip(
            gates_BD[:0:-1], filters, histories, strict=True
        ):
            gated_BD = gate_BD * v_BD
            seen_BSD = appended(history_BSD, gated_BD.unsqueeze(1), dim=1)
            v_BD = torch.addcmul(last_value(seen_BSD, taps_SD), gated_BD, skip_D)
            after.append(seen_BSD)
        return self.project_out(gates_BD[0] * v_BD), (before, *after)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Compute the recurrence over gates with filters drawn tap by tap and convolutions as sums."""
        (x_BLD,) = inputs
        width, order = self.context.width, self.params.order
        u_BLP = self.conv.reference(self.project_in(x_BLD))
        taps_LF = self.filter.reference(x_BLD.shape[1])
        v_BLD = u_BLP[..., order * width :]
        for number, i in enumerate(range(order - 1, 0, -1)):
            own = slice(number * width, (number + 1) * width)
            v_BLD = v_BLD * u_BLP[..., i * width : (i + 1) * width]
            v_BLD = convolve_directly(v_BLD, taps_LF[:, own]) + v_BLD * self.skip[own]
        y_BLD: Tensor = self.project_out(v_BLD * u_BLP[..., :width])
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """Convolutions over earlier positions are causal."""
        return True

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of one more input of each long convolution."""
        return (params.order - 1) * context.width * FLOAT32_BYTES

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the last inputs of the short convolution."""
        return (params.conv - 1) * (params.order + 1) * context.width * FLOAT32_BYTES
