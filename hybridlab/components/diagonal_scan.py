"""The diagonal recurrence h_t = a_t h_(t-1) + b_t, real or complex: one operator, its gradient written by hand.

To autograd, to a compiler and to the predictor it is one step, whatever the length. On the CPU it runs in the fused
kernel where there is one (``fused_scans``). The plain form cuts the positions into about sqrt(L) chunks: all chunks
step at the same time, then the state at their ends goes from one to the next, and what arrives is added. It multiplies
by decays only and never divides by them, so a decay of zero is as good as any other.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hybridlab.components.fused_scans import address, fused_for, threads_for

_ENOUGH = 16_384
"""Numbers per position from which a step is worth its call, so that chunks would only add work."""


def diagonal_scan(decay_BLD: Tensor, update_BLD: Tensor) -> Tensor:
    """Return h with h_t = a_t h_(t-1) + b_t and h_0 = b_0.

    Args:
        decay_BLD: a, at most 1 in size, (B, L, D); may be expanded from fewer numbers.
        update_BLD: b (B, L, D), of the same dtype: float32 or float64, or complex of these.

    Returns:
        (B, L, D).
    """
    states_BLD: Tensor = _forward(decay_BLD, update_BLD)
    return states_BLD


@torch.library.custom_op(
    "hybridlab::diagonal_scan",
    mutates_args=(),
    schema="(Tensor decay, Tensor update) -> Tensor",
)
def _forward(decay: Tensor, update: Tensor) -> Tensor:
    batch, length, features = update.shape
    library = fused_for(decay, update)
    if library is None:
        states = update.clone(memory_format=torch.contiguous_format)
        _scan(decay, states)
        return states
    decay, update = decay.contiguous(), update.contiguous()
    states = torch.empty_like(update)
    library.diagonal_forward(
        *map(address, (decay, update, states)),
        *(batch, length, features, update.is_complex(), threads_for(update.numel())),
    )
    return states


@torch.library.custom_op(
    "hybridlab::diagonal_scan_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor decay, Tensor states) -> (Tensor, Tensor)",
)
def _backward(grad: Tensor, decay: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a and b: g_t = grad_t + conj(a_(t+1)) g_(t+1) is that of b, g_t conj(h_(t-1)) of a."""
    batch, length, features = states.shape
    library = fused_for(grad, decay, states)
    if library is None:
        grad_update = grad.clone(memory_format=torch.contiguous_format)
        later = torch.cat((decay[:, 1:], torch.zeros_like(decay[:, :1])), 1).conj()
        _scan(later.resolve_conj(), grad_update, backwards=True)
        grad_decay = torch.zeros_like(states)
        torch.mul(grad_update[:, 1:], states[:, :-1].conj(), out=grad_decay[:, 1:])
        return grad_decay, grad_update
    grad, decay = grad.resolve_conj().contiguous(), decay.contiguous()
    grad_decay, grad_update = torch.empty_like(states), torch.empty_like(states)
    library.diagonal_backward(
        *map(address, (grad, decay, states, grad_decay, grad_update)),
        *(batch, length, features, states.is_complex(), threads_for(states.numel())),
    )
    return grad_decay, grad_update


def _scan(decay: Tensor, states: Tensor, *, backwards: bool = False) -> None:
    """Turn b into h in place: h_t = a_t h_(t-1) + b_t, or with t + 1 in place of t - 1 where backwards."""
    batch, length, features = states.shape
    if length < 2:
        return
    if batch * features >= _ENOUGH:
        _step_all(_in_order(decay, backwards), _in_order(states, backwards))
        return
    size = math.isqrt(length - 1) + 1
    padding = -length % size
    a = F.pad(decay, (0, 0, 0, padding)) if padding else decay
    h = F.pad(states, (0, 0, 0, padding)) if padding else states
    a_BncD, h_BncD = (torch.unflatten(part, 1, (-1, size)) for part in (a, h))
    kept_BncD = a_BncD.clone(
        memory_format=torch.contiguous_format
    )  # then the product of a chunk's decays so far
    steps_BnD, kept = _in_order(h_BncD.transpose(1, 2), backwards), kept_BncD.transpose(1, 2)
    _step_all(_in_order(a_BncD.transpose(1, 2), backwards), steps_BnD)
    for before, now in itertools.pairwise(_in_order(kept, backwards)):
        now.mul_(before)
    end, rest = (0, slice(1, None)) if backwards else (size - 1, slice(0, -1))
    _step_all(_in_order(kept_BncD[:, :, end], backwards), _in_order(h_BncD[:, :, end], backwards))
    here, there = (slice(0, -1), slice(1, None)) if backwards else (slice(1, None), slice(0, -1))
    h_BncD[:, here, rest].addcmul_(kept_BncD[:, here, rest], h_BncD[:, there, end].unsqueeze(2))
    if padding:
        states.copy_(h[:, :length])


def _in_order(x: Tensor, backwards: bool) -> tuple[Tensor, ...]:
    """Return the positions (dimension 1) in the order in which they are visited."""
    positions: tuple[Tensor, ...] = x.unbind(1)
    return positions[::-1] if backwards else positions


def _step_all(decays: tuple[Tensor, ...], states: tuple[Tensor, ...]) -> None:
    """Add to each state what the one before it leaves, in place."""
    for decay, (before, now) in zip(decays[1:], itertools.pairwise(states), strict=True):
        now.addcmul_(decay, before)


@_forward.register_fake
def _(decay: Tensor, update: Tensor) -> Tensor:
    return torch.empty_like(update, memory_format=torch.contiguous_format)


@_backward.register_fake
def _(grad: Tensor, decay: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(states), torch.empty_like(states)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    grads: tuple[Tensor, Tensor] = _backward(grad, *ctx.saved_tensors)
    return grads


_forward.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.hybridlab.diagonal_scan)
def _flops(decay: Any, update: Any, *args: Any, **kwargs: Any) -> int:
    """Count a multiply-add for each number."""
    return int(2 * math.prod(update))


@register_flop_formula(torch.ops.hybridlab.diagonal_scan_backward)
def _flops_backward(grad: Any, decay: Any, states: Any, *args: Any, **kwargs: Any) -> int:
    """Count a multiply-add and a product for each number."""
    return int(3 * math.prod(states))
