"""LRU: a linear recurrence with complex diagonal decays on a ring inside the unit circle."""

from __future__ import annotations

from collections.abc import Iterator

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
    float_dtype,
)
from hybridlab.components.diagonal_scan import diagonal_scan
from hybridlab.errors import Problem


@component(
    "lru",
    kind="token_mixer",
    title="LRU",
    summary="A plain linear recurrence that turns and fades its complex states at learned rates.",
    cost="linear",
    paper="https://arxiv.org/abs/2303.06349",
)
class LRU(Component):
    """Linear recurrent unit, (B, L, D) to (B, L, D), with N complex states.

    ``h_t = a h_(t-1) + gamma (B x_t)`` and ``y_t = Re(C h_t) + skip x_t``, with
    ``a = exp(-exp(nu) + i exp(theta))`` and gamma, which starts at sqrt(1 - |a|^2). The bend that the paper puts
    behind it is the next component's.
    """

    class Params(base.Params):
        """Parameters of ``lru``."""

        state: int | None = field(
            None, help="Complex numbers of the state; empty: the width.", ge=1, le=65_536
        )
        smallest: float = field(
            0.9,
            help="Smallest share of a state that a position keeps at first.",
            ge=0,
            lt=1,
            search=[0.0, 0.9],
        )
        largest: float = field(
            0.999,
            help="Largest share of a state that a position keeps at first.",
            gt=0,
            lt=1,
            search=[0.99, 0.999],
        )
        phase: float = field(
            6.283,
            help="Largest angle by which a position turns a state at first; small ones suit long inputs.",
            gt=0,
            le=6.2832,
            unit="radians",
            search=[0.314, 6.283],
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the maps; decays are uniform on the ring between ``smallest`` and ``largest``."""
        super().__init__(params, context)
        self.states = params.state or context.width
        squares_N = torch.empty(self.states).uniform_(params.smallest**2, params.largest**2)
        fading_N = -squares_N.clamp(min=1e-12).log() / 2
        angle_N = torch.empty(self.states).uniform_(0, params.phase).clamp(min=1e-6)
        self.nu = nn.Parameter(fading_N.log())
        self.theta = nn.Parameter(angle_N.log())
        self.gamma = nn.Parameter((-torch.expm1(-2 * fading_N)).sqrt())
        # Real and imaginary parts of the states side by side: what is written, and what is read.
        self.project_in = nn.Linear(context.features, 2 * self.states, bias=False)
        self.project_out = nn.Linear(2 * self.states, context.width, bias=False)
        nn.init.normal_(self.project_in.weight, std=(2 * context.features) ** -0.5)
        nn.init.normal_(self.project_out.weight, std=self.states**-0.5)
        self.skip = (
            nn.Parameter(torch.randn(context.width)) if context.features == context.width else None
        )

    def output_weights(self) -> list[str]:
        """Return those of the last map and of the skip beside it, which are added."""
        return [*super().output_weights(), *(() if self.skip is None else ("skip",))]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        written_BLN = self._written(x_BLD)
        h_BLN = diagonal_scan(self._decay().expand_as(written_BLN), written_BLN)
        return self._read(torch.view_as_real(h_BLN), x_BLD)

    def _decay(self) -> Tensor:
        """Return a (N), complex, at most 1 in size."""
        wide = float_dtype(self.nu)
        return torch.polar(torch.exp(-self.nu.to(wide).exp()), self.theta.to(wide).exp())

    def _written(self, x: Tensor) -> Tensor:
        """Return gamma B x (..., N), complex."""
        pairs = torch.unflatten(self.project_in(x), -1, (self.states, 2))
        wide = float_dtype(pairs)
        return torch.view_as_complex(pairs.to(wide) * self.gamma.to(wide).unsqueeze(-1))

    def _read(self, pairs: Tensor, x: Tensor) -> Tensor:
        """Return Re(C h) + skip x (..., D) from h in real and imaginary parts (..., N, 2)."""
        y: Tensor = self.project_out(pairs.flatten(-2).to(x.dtype))
        return y if self.skip is None else torch.addcmul(y, self.skip.to(y.dtype), x.to(y.dtype))

    def start(self, batch: int) -> State:
        """Return h in real and imaginary parts, zeros (B, N, 2)."""
        return (self.nu.new_zeros(batch, self.states, 2, dtype=float_dtype(self.nu)),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D)."""
        (x_BD,) = inputs_BD
        h_BN = self._decay() * torch.view_as_complex(state[0]) + self._written(x_BD)
        pairs_BN2 = torch.view_as_real(h_BN)
        return self._read(pairs_BN2, x_BD), (pairs_BN2,)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the recurrence of the paper, in real numbers."""
        (x_BLD,) = inputs
        size_N, angle_N = torch.exp(-self.nu.exp()), self.theta.exp()
        cosine_N, sine_N = size_N * angle_N.cos(), size_N * angle_N.sin()
        write_ND, read_DN = self.project_in.weight, self.project_out.weight
        real_BN = imaginary_BN = x_BLD.new_zeros(x_BLD.shape[0], self.states)
        rows_BD = []
        for x_BD in x_BLD.unbind(1):
            real_BN, imaginary_BN = (
                cosine_N * real_BN - sine_N * imaginary_BN + self.gamma * (x_BD @ write_ND[::2].T),
                sine_N * real_BN + cosine_N * imaginary_BN + self.gamma * (x_BD @ write_ND[1::2].T),
            )
            y_BD = real_BN @ read_DN[:, ::2].T + imaginary_BN @ read_DN[:, 1::2].T
            rows_BD.append(y_BD if self.skip is None else y_BD + self.skip * x_BD)
        return torch.stack(rows_BD, 1)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the ring is turned inside out."""
        if params.largest <= params.smallest:
            yield Problem(
                "largest",
                "the ring of decays is empty",
                f"more than {params.smallest:g}",
                f"{params.largest:g}",
                "raise largest or lower smallest",
            )

    @classmethod
    def causal(cls, params: Params) -> bool:
        """A recurrence from left to right is causal."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of N complex numbers."""
        return 2 * (params.state or context.width) * FLOAT32_BYTES
