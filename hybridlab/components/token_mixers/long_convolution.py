"""Filters as long as the sequence: convolution through the Fourier transform, and taps that a network draws.

The transform multiplies spectra, which is a circular convolution; zeros up to L + K - 1 positions
keep its end from meeting its start. Cost L log L, for K taps and L positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import float_dtype

FADED = 1e-2
"""What the window leaves of a filter after its time."""
FADING_TIMES = (0.3, 1.5)
"""When the fastest and the slowest feature have faded, in units of the filter's length."""


def convolve(x: Tensor, taps: Tensor, along: int = -2) -> Tensor:
    """Return y_t = sum over j <= t of taps_j x_(t - j), feature by feature, in x's dtype.

    Args:
        x: (B, L, D), or (D, B, L).
        taps: (K, D), or (D, 1, K).
        along: the dimension of the positions in both: -2, or -1.
    """
    wide = float_dtype(x)
    if torch.compiler.is_compiling():  # a compiler differentiates the parts itself
        return _convolved(x.to(wide), taps.to(wide), along).to(x.dtype)
    y: Tensor = _Convolution.apply(x.to(wide), taps.to(wide), along)  # type: ignore[no-untyped-call]
    return y.to(x.dtype)


class _Convolution(torch.autograd.Function):
    """Gradients are convolutions backwards in time: real transforms, where those of PyTorch's parts are complex.

    The inputs are kept, not their spectra, which are twice as many numbers and more.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: Tensor, along: int) -> Tensor:
        return _convolved(x, taps, along)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x, taps, ctx.along = inputs
        ctx.save_for_backward(x, taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        along = ctx.along
        size = fast_size(x.shape[along] + taps.shape[along] - 1)
        spectrum = torch.fft.rfft(grad, n=size, dim=along)
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:
            filtered = spectrum * torch.fft.rfft(taps, n=size, dim=along).conj()
            grad_x = torch.fft.irfft(filtered, n=size, dim=along).narrow(along, 0, x.shape[along])
        if ctx.needs_input_grad[1]:
            seen = spectrum * torch.fft.rfft(x, n=size, dim=along).conj()
            seen = seen.sum(0) if taps.dim() < x.dim() else seen.sum(1, keepdim=True)
            grad_taps = torch.fft.irfft(seen, n=size, dim=along).narrow(along, 0, taps.shape[along])
        return grad_x, grad_taps, None


def _convolved(x: Tensor, taps: Tensor, along: int) -> Tensor:
    length = x.shape[along]
    size = fast_size(length + taps.shape[along] - 1)
    spectrum = torch.fft.rfft(x, n=size, dim=along) * torch.fft.rfft(taps, n=size, dim=along)
    y: Tensor = torch.fft.irfft(spectrum, n=size, dim=along).narrow(along, 0, length)
    return y


def convolve_directly(x_BLD: Tensor, taps_KD: Tensor) -> Tensor:
    """Return the same position by position, as the sum is written."""
    rows_BD = []
    for t in range(x_BLD.shape[1]):
        seen = min(t + 1, taps_KD.shape[0])
        newest_first_BKD = x_BLD[:, t + 1 - seen : t + 1].flip(1)
        rows_BD.append((newest_first_BKD * taps_KD[:seen]).sum(1))
    return torch.stack(rows_BD, 1)


def last_value(history_BSD: Tensor, taps_KD: Tensor) -> Tensor:
    """Return the convolution at the last of S positions, K at most S: (B, D), in the history's dtype."""
    wide = float_dtype(history_BSD)
    seen_BKD = history_BSD[:, history_BSD.shape[1] - taps_KD.shape[0] :].to(wide)
    y_BD = torch.einsum("bkd,kd->bd", seen_BKD, taps_KD.flip(0).to(wide))
    return y_BD.to(history_BSD.dtype)


def fast_size(least: int) -> int:
    """Return the next size at or above ``least`` that is 1, 9/16, 5/8 or 3/4 of a power of two."""
    power = 1 << max(0, (least - 1).bit_length())
    if power < 16:
        return power
    return min(size for n in (9, 10, 12, 16) if (size := power // 16 * n) >= least)


class ImplicitFilter(nn.Module):
    """Taps of D features at any position, from a small network of the position and a window that fades.

    ``h(t) = exp(-rate t) W sin(w (W3 sin(w (W2 sin(w (W1 z(t))))))``, with z(t) the time t in units of
    ``length`` and the cosines and sines of 0, 1 ... ``bands`` - 1 turns of it: section 3.3 of
    https://arxiv.org/abs/2302.10866. All is computed in float32, under autocast too: a sine of
    rounded angles would be noise.
    """

    def __init__(
        self, features: int, hidden: int, bands: int, frequency: float, length: int
    ) -> None:
        """Create the network: maps with fan-in weights, and a frequency for each hidden unit."""
        super().__init__()
        self.features, self.bands, self.length = features, bands, length
        self.first = nn.Linear(1 + 2 * bands, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, features, bias=False)
        self.frequency = nn.Parameter(torch.full((hidden,), frequency))

    def forward(self, positions: int) -> Tensor:
        """Return the taps at positions 0 to K - 1, (K, D), in float32 or better."""
        weight = self.first.weight
        wide = float_dtype(weight)
        with torch.autocast(weight.device.type, enabled=False):
            time_K1 = torch.arange(positions, device=weight.device).to(wide)[:, None] / self.length
            turns_N = self._turns(wide)
            angles_KN = 2 * math.pi * time_K1 * turns_N
            z_KZ = torch.cat((time_K1, angles_KN.cos(), -angles_KN.sin()), dim=-1)
            for layer in (self.first, self.second, self.third):
                bias = layer.bias.to(wide)
                z_KZ = F.linear(z_KZ, layer.weight.to(wide), bias)
                z_KZ = torch.sin(self.frequency.to(wide) * z_KZ)
            taps_KD = F.linear(z_KZ, self.last.weight.to(wide))
            return taps_KD * torch.exp(-time_K1 * self._rates(wide))

    def _turns(self, dtype: torch.dtype) -> Tensor:
        """Return the turns per length of the bands; the first stands almost still, as the authors have it."""
        turns = [1e-4, *range(1, self.bands)] if self.bands else []
        return torch.tensor(turns, dtype=dtype, device=self.first.weight.device)

    def _rates(self, dtype: torch.dtype) -> Tensor:
        """Return the features' rates of fading, evenly between the slowest and the fastest: (D)."""
        slowest, fastest = (-math.log(FADED) / time for time in FADING_TIMES[::-1])
        device = self.first.weight.device
        return torch.linspace(slowest, fastest, self.features, dtype=dtype, device=device)

    def reference(self, positions: int) -> Tensor:
        """Return the same taps (K, D) position by position, bands as complex exponentials."""
        weight = self.first.weight
        slowest, fastest = (-math.log(FADED) / time for time in FADING_TIMES[::-1])
        rows_D = []
        for position in range(positions):
            time = position / self.length
            turns = [max(1e-4, band) for band in range(self.bands)]
            waves = torch.tensor(
                [
                    complex(math.cos(a), -math.sin(a))
                    for a in (2 * math.pi * n * time for n in turns)
                ],
                dtype=torch.complex128,
                device=weight.device,
            )
            z_Z = torch.cat((waves.real.new_tensor([time]), waves.real, waves.imag)).to(weight)
            for layer in (self.first, self.second, self.third):
                z_Z = (self.frequency * (layer.weight @ z_Z + layer.bias)).sin()
            share_D = torch.arange(self.features).to(weight) / max(1, self.features - 1)
            rate_D = slowest + (fastest - slowest) * share_D
            rows_D.append((self.last.weight @ z_Z) * (-rate_D * time).exp())
        return torch.stack(rows_D)
