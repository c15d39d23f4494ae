"""The RMS norm as one differentiable step: less than half the time and memory of its parts.

On the CPU, PyTorch composes it of a square, a mean, a root and two products and keeps what each of
them needs for the gradient. Here only the input is kept, which its neighbours keep anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import float_dtype


class RootMeanSquare(nn.Module):
    """An RMS norm with a learned scale, as a part of other components."""

    def __init__(self, features: int, eps: float = 1e-6) -> None:
        """Create the scale, which starts at one."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return rms_norm(x, self.scale, self.eps)


def rms_norm(x: Tensor, scale: Tensor | None, eps: float) -> Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * scale`` over the last dimension, in the dtype of ``x``.

    Accelerators have a fused kernel of their own, a compiler fuses the parts itself, and 16-bit
    inputs need wider sums: they take PyTorch's path, as does a norm without a scale.
    """
    if scale is not None and scale.dtype != x.dtype:
        scale = scale.to(x.dtype)
    fused = x.device.type != "cpu" or torch.compiler.is_compiling()
    if fused or scale is None or float_dtype(x) != x.dtype:
        return F.rms_norm(x, x.shape[-1:], scale, eps)
    y: Tensor = _RMSNorm.apply(x, scale, eps)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    """With r = (mean(x^2) + eps)^(-1/2) and y = r x s: dx = r (g s - x r^2 mean(g s x)), ds = r g x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, eps: float) -> Tensor:
        return x * _inverse_root(x, eps) * scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        x, scale, ctx.eps = inputs
        ctx.save_for_backward(x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale = ctx.saved_tensors
        inverse = _inverse_root(x, ctx.eps)
        product = grad * x
        along = (product @ scale).unsqueeze(-1) * inverse.square() / x.shape[-1]
        grad_x = torch.addcmul(grad * scale, x, along, value=-1) * inverse
        grad_scale = inverse.reshape(-1) @ product.reshape(-1, x.shape[-1])
        return grad_x, grad_scale, None


def _inverse_root(x: Tensor, eps: float) -> Tensor:
    """Return (mean(x^2) + eps)^(-1/2) with a last dimension of one."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return (norm * norm / x.shape[-1] + eps).rsqrt()
