"""Norms without their scale and shift, where these go into the linear maps behind them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import float_dtype
from hybridlab.components.norms.dynamic_tanh import DynamicTanh
from hybridlab.components.norms.layer_norm import LayerNorm
from hybridlab.components.norms.rms_norm import RMSNorm
from hybridlab.components.root_mean_square import RootMeanSquare, rms_norm

_Norm = RMSNorm | RootMeanSquare | LayerNorm | DynamicTanh


def foldable(module: nn.Module) -> bool:
    """Say whether a module ends with a learned scale or shift of each feature that can go into what follows."""
    return isinstance(module, _Norm) and any(one is not None for one in _learned(module))


def affine_of(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the scale and the shift, (D) or None each, that take what ``bare_form`` computes to what the norm does."""
    scale, shift = _learned(norm)
    if scale is not None and _by_length(norm):
        scale = scale * math.sqrt(len(scale))
    return scale, shift


def bare_kind(norm: nn.Module) -> tuple[object, ...]:
    """Return what norms have in common whose bare forms are the same function."""
    if isinstance(norm, DynamicTanh):
        return "tanh", id(norm.alpha)
    return "layer" if isinstance(norm, LayerNorm) else "rms", _eps(norm)


def bare_form(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes a norm of (..., D) without its scale and shift.

    On the CPU an RMS norm divides by the length of the vector, which is sqrt(D) times its root mean square: three
    kernels instead of seven, with sqrt(D) left to the maps. The eps comes in as the other side of a right angle:
    x / sqrt(|x|^2 + D eps).
    """
    if isinstance(norm, DynamicTanh):
        alpha = norm.alpha
        return lambda x: torch.tanh(x.to(float_dtype(x)) * alpha).to(x.dtype)
    eps = _eps(norm)
    if isinstance(norm, LayerNorm):
        return lambda x: F.layer_norm(x, x.shape[-1:], eps=eps)
    if not _by_length(norm):
        return lambda x: rms_norm(x, None, eps)
    scale = _learned(norm)[0]
    assert scale is not None
    least = torch.tensor(math.sqrt(eps * len(scale)), dtype=torch.float64)

    def by_length(x: Tensor) -> Tensor:
        wide = x.to(float_dtype(x))
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        return (wide / torch.hypot(length, least)).to(x.dtype)

    return by_length


def _learned(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(norm, "scale", None), getattr(norm, "bias", None)


def _by_length(norm: nn.Module) -> bool:
    """Say whether a norm is an RMS norm on the CPU, in a format whose rounding does not show; else kernels fuse it."""
    scale = _learned(norm)[0]
    exact = scale is not None and scale.dtype in (torch.float32, torch.float64)
    return exact and isinstance(norm, RMSNorm | RootMeanSquare) and scale.device.type == "cpu"  # type: ignore[union-attr]


def _eps(norm: nn.Module) -> float:
    return float(norm.params.eps if isinstance(norm, RMSNorm | LayerNorm) else norm.eps)  # type: ignore[arg-type]
