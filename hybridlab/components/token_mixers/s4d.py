"""S4D: a diagonal state space with fixed rates, run as one long convolution."""

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
    undecayed,
)
from hybridlab.components.channel_major import Layout, by_channels, out_of_channels

STEP_RANGE = (0.001, 0.1)


@component(
    "s4d",
    kind="token_mixer",
    title="S4D",
    summary="Each feature is filtered by oscillators that fade; one long convolution over the sequence.",
    cost="linear·log",
    paper="https://arxiv.org/abs/2206.11893",
)
class S4D(Component):
    """Diagonal state space, (B, L, D) to (B, L, D); each feature has N complex states, half of a real system's 2N.

    ``h' = A h + x`` and ``y = 2 Re(C h) + skip x``, sampled with a step dt (zero-order hold):
    ``h_t = exp(dt A) h_(t-1) + (exp(dt A) - 1) / A x_t``. That is a convolution with
    ``k_l = 2 Re(C (exp(dt A) - 1) / A exp(dt A l))``, done by fast Fourier transforms. The output is a gated linear map
    of GELU(y), as in the authors' layer.
    """

    class Params(base.Params):
        """Parameters of ``s4d``."""

        state: int = field(
            32,
            help="Oscillators of each feature (half the paper's N).",
            ge=1,
            le=1024,
            search=[8, 16, 32],
        )
        frequencies: Literal["lin", "inv"] = field(
            "lin",
            help="Frequencies at first: evenly spaced (S4D-Lin) or mostly low (S4D-Inv).",
            search=["lin", "inv"],
        )

    params: Params

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the oscillators with decay 1/2, and steps log-uniform in .001 to .1."""
        super().__init__(params, context)
        features, states = context.features, params.state
        n_N = torch.arange(states, dtype=torch.get_default_dtype())
        inverse_N = 2 * states / math.pi * (2 * states / (2 * n_N + 1) - 1)
        frequency_N = math.pi * n_N if params.frequencies == "lin" else inverse_N
        low, high = (math.log(bound) for bound in STEP_RANGE)
        self.log_step = nn.Parameter(torch.empty(features).uniform_(low, high))
        self.log_rate = undecayed(nn.Parameter(torch.full((features, states), math.log(0.5))))
        self.frequency = undecayed(nn.Parameter(frequency_N.repeat(features, 1)))
        self.read = nn.Parameter(torch.randn(features, states, 2) * math.sqrt(0.5))
        self.skip = nn.Parameter(torch.randn(features))
        self.project_out = nn.Linear(features, 2 * context.width)
        self.layout: Layout = "tokens"

    def output_weights(self) -> list[str]:
        """Return none: a gated unit stands behind the last map."""
        return []

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Mix (B, L, D) along L."""
        length = x_BLD.shape[1]
        padded = _fast_length(2 * length)
        wide_BLD = x_BLD.to(float_dtype(x_BLD))
        spectrum_DF = torch.fft.rfft(self._kernel(length).to(wide_BLD.dtype), n=padded)
        if self.layout == "channels":
            wide_DBL = by_channels(wide_BLD)
            spectrum_DBF = torch.fft.rfft(wide_DBL, n=padded) * spectrum_DF.unsqueeze(1)
            y_DBL = torch.fft.irfft(spectrum_DBF, n=padded)[..., :length]
            y_DBL = torch.addcmul(y_DBL, self.skip.to(wide_DBL.dtype)[:, None, None], wide_DBL)
            return F.glu(out_of_channels(self.project_out, F.gelu(y_DBL.to(x_BLD.dtype))))
        spectrum_BDF = torch.fft.rfft(wide_BLD.transpose(1, 2), n=padded) * spectrum_DF
        y_BDL = torch.fft.irfft(spectrum_BDF, n=padded)[..., :length]
        return self._output(y_BDL.transpose(1, 2).to(x_BLD.dtype), x_BLD)

    def _sampled(self) -> tuple[Tensor, Tensor]:
        """Return dt A (D, N) and 2 C (exp(dt A) - 1) / A (D, N), complex, in double precision where there is one.

        A phase is dt x frequency x position, thousands of turns on a long sequence: single precision would lose it.
        """
        precise = (
            float_dtype(self.log_step) if self.log_step.device.type == "mps" else torch.float64
        )
        step_D1 = self.log_step.to(precise).exp().unsqueeze(-1)
        rate_DN = torch.complex(-self.log_rate.to(precise).exp(), self.frequency.to(precise))
        exponent_DN = step_D1 * rate_DN
        read_DN = torch.view_as_complex(self.read.to(precise))
        return exponent_DN, 2 * read_DN * torch.expm1(exponent_DN) / rate_DN

    def _kernel(self, length: int) -> Tensor:
        """Return k (D, L).

        Position l = size x i + j needs exp(dt A size i) and exp(dt A j) only, 2 sqrt(L) exponentials instead of L;
        their products, summed over the states, are one matrix product.
        """
        exponent_DN, read_DN = self._sampled()
        size = math.isqrt(length - 1) + 1
        ticks = torch.arange(size, device=read_DN.device, dtype=read_DN.real.dtype)
        coarse_DIN = (
            read_DN.unsqueeze(1) * (exponent_DN.unsqueeze(1) * (ticks[:, None] * size)).exp()
        )
        fine_DNJ = (exponent_DN.unsqueeze(-1) * ticks).exp()
        wide = float_dtype(self.skip)
        rows_DIM = torch.cat((coarse_DIN.real, -coarse_DIN.imag), -1).to(wide)
        columns_DMJ = torch.cat((fine_DNJ.real, fine_DNJ.imag), 1).to(wide)
        with torch.autocast(
            self.skip.device.type, enabled=False
        ):  # 8 bits are too few for a kernel
            return (rows_DIM @ columns_DMJ).flatten(1)[:, :length]

    def _output(self, y: Tensor, x: Tensor) -> Tensor:
        """Add the skip, bend, and project to (..., D) through a gate."""
        out: Tensor = F.glu(self.project_out(F.gelu(torch.addcmul(y, self.skip.to(x.dtype), x))))
        return out

    def start(self, batch: int) -> State:
        """Return h in real and imaginary parts, zeros (B, D, N, 2)."""
        sizes = (batch, *self.read.shape)
        return (self.skip.new_zeros(sizes, dtype=float_dtype(self.skip)),)

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Read one position (B, D); the states kept are those that a weight of one would have written."""
        (x_BD,) = inputs_BD
        exponent_DN, read_DN = self._sampled()
        h_BDN = torch.view_as_complex(state[0])
        decay_DN = exponent_DN.exp().to(h_BDN.dtype)
        h_BDN = torch.addcmul(x_BD.to(h_BDN.dtype).unsqueeze(-1), decay_DN, h_BDN)
        y_BD = (read_DN.to(h_BDN.dtype) * h_BDN).real.sum(-1)
        return self._output(y_BD.to(x_BD.dtype), x_BD), (torch.view_as_real(h_BDN),)

    def reference(self, *inputs: Tensor) -> Tensor:
        """Step through the sampled recurrence of the paper."""
        (x_BLD,) = inputs
        step_D1 = self.log_step.exp().unsqueeze(-1)
        rate_DN = torch.complex(-self.log_rate.exp(), self.frequency)
        decay_DN = torch.exp(step_D1 * rate_DN)
        write_DN, read_DN = (decay_DN - 1) / rate_DN, torch.view_as_complex(self.read)
        h_BDN, rows_BD = torch.zeros_like(read_DN).unsqueeze(0), []
        for x_BD in x_BLD.unbind(1):
            h_BDN = decay_DN * h_BDN + write_DN * x_BD.unsqueeze(-1)
            rows_BD.append(2 * (read_DN * h_BDN).real.sum(-1))
        return self._output(torch.stack(rows_BD, 1), x_BLD)

    @classmethod
    def causal(cls, params: Params) -> bool:
        """The kernel reaches back only."""
        return True

    @classmethod
    def state_bytes(cls, params: Params, context: BuildContext) -> float:
        """Return the bytes of D x N complex numbers."""
        return 2 * context.features * params.state * FLOAT32_BYTES


def _fast_length(least: int) -> int:
    """Return the smallest of 2^k, 3 x 2^k and 5 x 2^k from ``least`` on: lengths that transforms are fast at."""
    return min(factor << max(0, (-(-least // factor) - 1).bit_length()) for factor in (2, 3, 5))
