"""The selective scan of Mamba (S6): one operator, its gradient written by hand, its states never all in memory.

``h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t`` and ``y_t = C_t h_t`` for each of E features with N states. To autograd, to
a compiler and to the predictor it is one step, whatever the length. Forward keeps the state before every 32nd
position, backward computes the states between them again. On the CPU it runs in the fused kernel where there is one
(``fused_scans``), on a GPU in mamba-ssm's where that is installed (``gpu_kernels``). The plain form takes 32 positions
at a time and as many sequences as the processor's cache holds, in buffers that it uses again and again. Exponents are
at most 0, so nothing overflows at any decay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hybridlab.components.fused_scans import address, fused_for, threads_for
from hybridlab.components.gpu_kernels import kernel_for

BLOCK = 32
"""Positions between two states that forward keeps; ``fused_scans.cpp`` has the same number."""

_IN_CACHE = 16_384
"""Numbers of a step (sequences x states x features) with which a block stays in a processor's cache."""


def selective_scan(
    x_BLE: Tensor, dt_BLE: Tensor, rate_NE: Tensor, write_BLN: Tensor, read_BLN: Tensor
) -> Tensor:
    """Compute y_t = C_t h_t with h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t, all in one wide dtype.

    Args:
        x_BLE: values (B, L, E).
        dt_BLE: steps, at least 0, (B, L, E).
        rate_NE: A, at most 0, (N, E).
        write_BLN: B (B, L, N).
        read_BLN: C (B, L, N).

    Returns:
        (B, L, E).
    """
    kernel = kernel_for("selective_scan", x_BLE, rate_NE)
    if kernel is not None:
        return kernel(x_BLE, dt_BLE, rate_NE, write_BLN, read_BLN)
    y_BLE: Tensor = _forward(x_BLE, dt_BLE, rate_NE, write_BLN, read_BLN)[0]
    return y_BLE


_INPUTS = "Tensor x, Tensor dt, Tensor rate, Tensor write, Tensor read"


@torch.library.custom_op(
    "hybridlab::selective_scan",
    mutates_args=(),
    schema=f"({_INPUTS}) -> (Tensor, Tensor)",
)
def _forward(
    x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor
) -> tuple[Tensor, Tensor]:
    """Return y and the states before each block (n, B, N, E)."""
    x, dt, rate, write, read = (part.contiguous() for part in (x, dt, rate, write, read))
    y, starts = _empty_outputs(x, rate)
    library = fused_for(x, dt, rate, write, read)
    if library is None:
        starts_BnNE = starts.transpose(0, 1)
        for rows in _rows(x, rate):
            own_starts = starts_BnNE[rows].transpose(0, 1)
            _plain_forward(x[rows], dt[rows], rate, write[rows], read[rows], y[rows], own_starts)
    else:
        library.selective_forward(
            *map(address, (x, dt, rate, write, read, y, starts)), *_sizes(x, rate)
        )
    return y, starts


@torch.library.custom_op(
    "hybridlab::selective_scan_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_INPUTS}, Tensor starts) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor,
    x: Tensor,
    dt: Tensor,
    rate: Tensor,
    write: Tensor,
    read: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, dt, A, B and C."""
    grad, x, dt, rate, write, read = (
        part.contiguous() for part in (grad, x, dt, rate, write, read)
    )
    grad_x, grad_dt = torch.empty_like(x), torch.empty_like(x)
    library = fused_for(grad, x, dt, rate, write, read)
    if library is None:
        grad_rate = torch.zeros_like(rate)
        grad_write, grad_read = torch.empty_like(write), torch.empty_like(read)
        starts_BnNE = starts.transpose(0, 1)
        for rows in _rows(x, rate):
            own_starts = starts_BnNE[rows].transpose(0, 1)
            _plain_backward(
                (grad[rows], x[rows], dt[rows], rate, write[rows], read[rows], own_starts),
                (grad_x[rows], grad_dt[rows], grad_rate, grad_write[rows], grad_read[rows]),
            )
        return grad_x, grad_dt, grad_rate, grad_write, grad_read
    sizes = _sizes(x, rate)
    grad_rate_BNE = rate.new_empty(x.shape[0], *rate.shape)
    grad_write_kBLN, grad_read_kBLN = (
        part.new_zeros(sizes[-1], *part.shape) for part in (write, read)
    )
    parts = (grad_x, grad_dt, grad_rate_BNE, grad_write_kBLN, grad_read_kBLN)
    library.selective_backward(
        *map(address, (grad, x, dt, rate, write, read, starts, *parts)), *sizes
    )
    return grad_x, grad_dt, grad_rate_BNE.sum(0), grad_write_kBLN.sum(0), grad_read_kBLN.sum(0)


def _empty_outputs(x: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, features = x.shape
    starts = x.new_empty(-(-length // BLOCK), batch, rate.shape[0], features)
    return torch.empty_like(x, memory_format=torch.contiguous_format), starts


def _sizes(x: Tensor, rate: Tensor) -> tuple[int, ...]:
    """Return B, L, E, N and the number of threads."""
    return *x.shape, rate.shape[0], threads_for(x.numel() * rate.shape[0])


def _rows(x: Tensor, rate: Tensor) -> Iterator[slice]:
    """Yield the sequences that are taken together: all, or on a CPU as many as its cache holds."""
    together = x.shape[0] if x.device.type != "cpu" else max(1, _IN_CACHE // rate.numel())
    for first in range(0, x.shape[0], together):
        yield slice(first, first + together)


def _plain_forward(
    x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor, y: Tensor, starts: Tensor
) -> None:
    """Fill y (B, L, E) and the starts (n, B, N, E)."""
    buffers = [_buffer(x, rate) for _ in range(2)]
    state_BNE = torch.zeros_like(starts[0])
    driven = dt * x
    for block, span in enumerate(_spans(x)):
        starts[block].copy_(state_BNE)
        decay_TBNE, states_TBNE = (buffer[: span.stop - span.start] for buffer in buffers)
        _states(dt, driven, rate, write, span, starts[block], decay_TBNE, states_TBNE)
        state_BNE = states_TBNE[-1]
        y_TB1E = _by_time(read, span).unsqueeze(2) @ states_TBNE
        y[:, span] = y_TB1E.squeeze(2).transpose(0, 1)


def _plain_backward(given: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> None:
    """Fill the gradients of x, dt, B and C, and add to that of A; ``given`` ends with the starts."""
    grad, x, dt, rate, write, read, starts = given
    grad_x, grad_dt, grad_rate, grad_write, grad_read = grads
    buffers = [_buffer(x, rate) for _ in range(3)]
    carried_BNE = torch.zeros_like(starts[0])
    driven = dt * x
    for block, span in reversed(list(enumerate(_spans(x)))):
        decay, states, g = (buffer[: span.stop - span.start] for buffer in buffers)
        _states(dt, driven, rate, write, span, starts[block], decay, states)
        grad_TB1E, dt_TB1E, driven_TB1E = (
            _by_time(part, span).unsqueeze(2) for part in (grad, dt, driven)
        )
        # g is the gradient of the state: what y asks for, and what the next state hands back.
        torch.mul(grad_TB1E, _by_time(read, span).unsqueeze(3), out=g)
        steps, decays = g.unbind(0)[::-1], decay.unbind(0)[::-1]
        steps[0].add_(carried_BNE)
        for decay_BNE, (after_BNE, now_BNE) in zip(decays, itertools.pairwise(steps), strict=False):
            now_BNE.addcmul_(decay_BNE, after_BNE)
        _give(grad_read, span, (states @ grad_TB1E.transpose(2, 3)).squeeze(3))
        _give(grad_write, span, (g @ driven_TB1E.transpose(2, 3)).squeeze(3))
        grad_driven_TBE = (_by_time(write, span).unsqueeze(2) @ g).squeeze(2)
        # From here on ``decay`` holds g exp(dt A), then the gradient of the exponent dt A.
        decay.mul_(g)
        carried_BNE.copy_(decay[0])
        decay[1:].mul_(states[:-1])
        decay[0].mul_(starts[block])
        grad_dt_TBE = torch.mul(decay, rate, out=states).sum(2)
        grad_rate += torch.mul(decay, dt_TB1E, out=states).sum((0, 1))
        _give(grad_dt, span, grad_dt_TBE.addcmul_(grad_driven_TBE, _by_time(x, span)))
        _give(grad_x, span, grad_driven_TBE.mul_(_by_time(dt, span)))


def _states(
    dt: Tensor,
    driven: Tensor,
    rate: Tensor,
    write: Tensor,
    span: slice,
    state_BNE: Tensor,
    decay_TBNE: Tensor,
    states_TBNE: Tensor,
) -> None:
    """Fill a block's decays, and its states from the one before it."""
    torch.mul(_by_time(dt, span).unsqueeze(2), rate, out=decay_TBNE).exp_()
    driven_TB1E, write_TBN1 = (
        _by_time(driven, span).unsqueeze(2),
        _by_time(write, span).unsqueeze(3),
    )
    torch.mul(driven_TB1E, write_TBN1, out=states_TBNE)
    for decay_BNE, now_BNE in zip(decay_TBNE.unbind(0), states_TBNE.unbind(0), strict=True):
        state_BNE = now_BNE.addcmul_(decay_BNE, state_BNE)


def _spans(x: Tensor) -> Iterator[slice]:
    length = x.shape[1]
    for first in range(0, length, BLOCK):
        yield slice(first, min(first + BLOCK, length))


def _buffer(x: Tensor, rate: Tensor) -> Tensor:
    return x.new_empty(min(BLOCK, x.shape[1]), x.shape[0], *rate.shape)


def _by_time(x_BLP: Tensor, span: slice) -> Tensor:
    """Return a block of positions with time first: (T, B, P)."""
    return x_BLP[:, span].transpose(0, 1)


def _give(to_BLP: Tensor, span: slice, part_TBP: Tensor) -> None:
    to_BLP[:, span] = part_TBP.transpose(0, 1)


@_forward.register_fake
def _(x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_outputs(x, rate)


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor, starts: Tensor
) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(part, memory_format=torch.contiguous_format)
        for part in (x, dt, rate, write, read)
    )


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, grad: Tensor, grad_starts: None) -> tuple[Tensor, ...]:
    grads: tuple[Tensor, ...] = _backward(grad, *ctx.saved_tensors)
    return grads


_forward.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.hybridlab.selective_scan)
def _flops(x: Any, dt: Any, rate: Any, *args: Any, **kwargs: Any) -> int:
    """Count 7 for each number of each state: exponent, exponential, write, recurrence and read."""
    return int(7 * math.prod(x) * rate[0])


@register_flop_formula(torch.ops.hybridlab.selective_scan_backward)
def _flops_backward(grad: Any, x: Any, dt: Any, rate: Any, *args: Any, **kwargs: Any) -> int:
    """Count 19: the states again, and the products that lead to the five gradients."""
    return int(19 * math.prod(x) * rate[0])
