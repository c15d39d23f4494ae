"""Norms without their scale and shift, where these go into the linear maps behind them."""

from __future__ import annotations

import functools
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
    x / sqrt(|x|^2 + D eps). Each call goes by the norm as it is then, as ``affine_of`` does: a model may be moved.
    """
    if isinstance(norm, DynamicTanh):
        return functools.partial(_tanh, norm)
    eps = _eps(norm)
    if isinstance(norm, LayerNorm):
        return lambda x: F.layer_norm(x, x.shape[-1:], eps=eps)
    scale = _learned(norm)[0]
    features = 0 if scale is None else len(scale)
    least = torch.tensor(math.sqrt(eps * features), dtype=torch.float64)
    return functools.partial(_root_mean_square, norm, eps, least)


def _tanh(norm: DynamicTanh, x: Tensor) -> Tensor:
    return torch.tanh(x.to(float_dtype(x)) * norm.alpha).to(x.dtype)


def _root_mean_square(norm: nn.Module, eps: float, least: Tensor, x: Tensor) -> Tensor:
    if not _by_length(norm):
        return rms_norm(x, None, eps)
    wide = x.to(float_dtype(x))
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (wide / torch.hypot(length, least)).to(x.dtype)


def _learned(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(norm, "scale", None), getattr(norm, "bias", None)


def _by_length(norm: nn.Module) -> bool:
    """Say whether a norm is an RMS norm on the CPU, in a format whose rounding does not show; else kernels fuse it."""
    scale = _learned(norm)[0]
    exact = scale is not None and scale.dtype in (torch.float32, torch.float64)
    return exact and isinstance(norm, RMSNorm | RootMeanSquare) and scale.device.type == "cpu"  # type: ignore[union-attr]


def _eps(norm: nn.Module) -> float:
    return float(norm.params.eps if isinstance(norm, RMSNorm | LayerNorm) else norm.eps)  # type: ignore[arg-type]
