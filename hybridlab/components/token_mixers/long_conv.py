"""Long convolution: one filter a feature, as long as the sequence."""

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
)
from hybridlab.components.channel_major import Layout, by_channels, out_of_channels
from hybridlab.components.growing import appended
from hybridlab.components.token_mixers.long_convolution import (
    ImplicitFilter,
    convolve,
    convolve_directly,
    last_value,
)


@component(
    "long_conv",
    kind="token_mixer",
    title="Long convolution",
    summary="Convolves each feature with one filter as long as the sequence, learned tap by tap or drawn.",
    cost="linear·log",
    paper="https://arxiv.org/abs/2302.06646",
)
class LongConv(Component):
    """``gelu(h * x + skip x) W``, with ``*`` the causal convolution: (B, L, D) to (B, L, D).

    Explicit filters have ``length`` taps, squashed by ``sign(h) max(|h| - squash, 0)``, and do not see
    further. Implicit ones are drawn by a small network, as Hyena's, and have no end; one position at
    a time, they need the history of all inputs.
    """

    class Params(base.Params):
        """Parameters of ``long_conv``."""

        filter: Literal["explicit", "implicit"] = field(
            "explicit",
            help="A weight for each tap, or taps drawn by a small network, without an end.",
            search=["explicit", "implicit"],
        )
        length: int = field(
            256,
            help="Taps of an explicit filter; positions in which an implicit one fades.",
            ge=1,
            le=1_048_576,
            unit="positions",
            search=[64, 256, 1024],
        )
        squash: float = field(
            0.0,
            help="Explicit taps below this size count as 0, which keeps filters smooth.",
            ge=0,
            le=1,
        )
        hidden: int = field(
            32, help="Hidden units of the network that draws an implicit filter.", ge=1, le=4096
        )
        bands: int = field(
            8, help="Frequencies of the position that this network reads.", ge=0, le=1024
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the filter, taps uniform within 1 / sqrt(length), the skip and the map out."""
        super().__init__(params, context)
        features = context.features
        self.taps: nn.Parameter | None = None
        self.filter: ImplicitFilter | None = None
        if params.filter == "explicit":
            bound = 1 / math.sqrt(params.length)
            self.taps = nn.Parameter(torch.empty(features, params.length).uniform_(-bound, bound))
        else:
            self.filter = ImplicitFilter(features, params.hidden, params.bands, 1.0, params.length)
        self.skip = nn.Parameter(torch.randn(features))
        self.project_out = nn.Linear(features, context.width)
        self.layout: Layout = "tokens"

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        if self.layout == "channels":
            x_DBL = by_channels(x_BLD)
            taps_DK = self._taps(x_BLD.shape[1]).T
            mixed_DBL = convolve(x_DBL, taps_DK.unsqueeze(1), along=-1)
            bent_DBL = F.gelu(torch.addcmul(mixed_DBL, x_DBL, self.skip[:, None, None]))
            return out_of_channels(self.project_out, bent_DBL)
        mixed_BLD = convolve(x_BLD, self._taps(x_BLD.shape[1]))
        y_BLD: Tensor = self.project_out(F.gelu(torch.addcmul(mixed_BLD, x_BLD, self.skip)))
        return y_BLD

    def _taps(self, positions: int) -> Tensor:
        """Return the taps that so many positions can see, (K, D)."""
        if self.filter is not None:
            taps_KD: Tensor = self.filter(positions)
            return taps_KD
        assert self.taps is not None
        taps_KD = self.taps[:, :positions].T
        return F.softshrink(taps_KD, self.params.squash) if self.params.squash else taps_KD

    def start(self, batch: int) -> State:
        """Return the inputs that taps still see: none yet (B, 0, D), or zeros (B, K - 1, D) where taps end."""
        kept = self.params.length - 1 if self.filter is None else 0
        return (self.skip.new_zeros(batch, kept, self.context.features),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        (before_BSD,) = state
        if self.filter is not None:
            seen_BSD = appended(before_BSD, x_BD.unsqueeze(1), dim=1)
        else:
            seen_BSD = torch.cat((before_BSD, x_BD.unsqueeze(1)), dim=1)
        mixed_BD = last_value(seen_BSD, self._taps(seen_BSD.shape[1]))
        y_BD: Tensor = self.project_out(F.gelu(torch.addcmul(mixed_BD, x_BD, self.skip)))
        return y_BD, (seen_BSD if self.filter is not None else seen_BSD[:, 1:].clone(),)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Add up the taps position by position."""
        (x_BLD,) = inputs
        if self.filter is not None:
            taps_KD = self.filter.reference(x_BLD.shape[1])
        else:
            assert self.taps is not None
            taps_KD = self.taps.T
            taps_KD = taps_KD.sign() * (taps_KD.abs() - self.params.squash).clamp(min=0)
        z_BLD = convolve_directly(x_BLD, taps_KD) + self.skip * x_BLD
        gelu_BLD = z_BLD * 0.5 * (1 + torch.erf(z_BLD / math.sqrt(2)))
        y_BLD: Tensor = self.project_out(gelu_BLD)
        return y_BLD

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A convolution over earlier positions is causal."""
        return True

    @classmethod
    def state_bytes_per_token(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of one more input where the filter has no end."""
        return context.features * FLOAT32_BYTES if params.filter == "implicit" else 0.0

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of the inputs that an explicit filter still sees."""
        explicit = params.filter == "explicit"
        return (params.length - 1) * context.features * FLOAT32_BYTES if explicit else 0.0
