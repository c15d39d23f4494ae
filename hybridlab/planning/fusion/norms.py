"""Norms without their scale and shift, where these go into the linear maps behind them."""

from __future__ import annotations

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
    return isinstance(module, _Norm) and any(one is not None for one in affine_of(module))


def affine_of(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the learned scale and shift of a norm, (D) or None each."""
    return getattr(norm, "scale", None), getattr(norm, "bias", None)


def bare_kind(norm: nn.Module) -> tuple[object, ...]:
    """Return what norms have in common that without scale and shift are the same function."""
    if isinstance(norm, DynamicTanh):
        return "tanh", id(norm.alpha)
    return "layer" if isinstance(norm, LayerNorm) else "rms", _eps(norm)


def bare(norm: nn.Module, x: Tensor) -> Tensor:
    """Compute a norm of (..., D) without its scale and shift."""
    if isinstance(norm, DynamicTanh):
        return torch.tanh(x.to(float_dtype(x)) * norm.alpha).to(x.dtype)
    if isinstance(norm, LayerNorm):
        return F.layer_norm(x, x.shape[-1:], eps=_eps(norm))
    return rms_norm(x, None, _eps(norm))


def _eps(norm: nn.Module) -> float:
    return float(norm.params.eps if isinstance(norm, RMSNorm | LayerNorm) else norm.eps)  # type: ignore[arg-type]
