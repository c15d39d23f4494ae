"""The recurrence of sLSTM (https://arxiv.org/abs/2405.04517) as one differentiable step.

Its gates read the output of the position before, through a matrix, so time cannot be done in
parallel. The loop runs outside autograd and the gradient is written by hand: backward keeps a few
tensors in all, not a dozen for each position.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = -1e38
"""The log weight of nothing."""

Cell = tuple[Tensor, Tensor, Tensor, Tensor]
"""c, n, m and h, (B, H, P) each."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def slstm(inputs_BLGHP: Tensor, recurrent_HPGP: Tensor) -> Tensor:
    """Read what the inputs give to the gates i, f, z and o, (B, L, 4, H, P); return h (B, L, H, P).

    Args:
        inputs_BLGHP: the inputs' part of the gates, biases included, in float32 or better.
        recurrent_HPGP: the map from h to the gates, head by head, (H, P, 4, P), in the same dtype.
    """
    h_BLHP: Tensor = _SLSTM.apply(inputs_BLGHP, recurrent_HPGP)  # type: ignore[no-untyped-call]
    return h_BLHP


def empty_cell(like_BHP: Tensor) -> Cell:
    """Return the cell before the first position."""
    zeros_BHP = torch.zeros_like(like_BHP)
    return zeros_BHP, zeros_BHP, torch.full_like(like_BHP, NEVER), zeros_BHP


def slstm_step(
    cell: Cell, inputs_BGHP: Tensor, matrix_HPQ: Tensor
) -> tuple[Cell, tuple[Tensor, ...]]:
    """Read one position: i = exp, f = sigmoid, z = tanh, o = sigmoid; c = f c + i z, n = f n + i, h = o c / n.

    Both c and n are kept divided by exp(m), the largest weight in them, so that n is at least one.

    Args:
        cell: c, n, m and h.
        inputs_BGHP: (B, 4, H, P).
        matrix_HPQ: the recurrent map, (H, P, 4 P).

    Returns:
        The new cell, and what backward needs: i and f (over exp(m)), z, o and the sigmoid of -f's input.
    """
    c, n, m, h = cell
    back_HBQ = torch.bmm(h.transpose(0, 1), matrix_HPQ)
    back_BGHP = torch.unflatten(back_HBQ, -1, (4, -1)).permute(1, 2, 0, 3)
    write, forget, z, o = (inputs_BGHP + back_BGHP).unbind(1)
    kept = F.logsigmoid(forget) + m
    m = torch.maximum(kept, write)
    write, kept, z, o = (write - m).exp(), (kept - m).exp(), z.tanh(), o.sigmoid()
    c = torch.addcmul(kept * c, write, z)
    n = torch.addcmul(write, kept, n)
    return (c, n, m, o * c / n), (write, kept, z, o, torch.sigmoid(-forget))


class _SLSTM(torch.autograd.Function):
    """The loop, and its gradient; m is a constant to it, because h is the same for every m."""

    @staticmethod
    def forward(ctx: Any, inputs_BLGHP: Tensor, recurrent_HPGP: Tensor) -> Tensor:
        with torch.autocast(inputs_BLGHP.device.type, enabled=False):
            matrix_HPQ = recurrent_HPGP.flatten(2)
            cell = empty_cell(inputs_BLGHP[:, 0, 0])
            kept: list[tuple[Tensor, ...]] = []
            for inputs_BGHP in inputs_BLGHP.unbind(1):
                cell, gates = slstm_step(cell, inputs_BGHP, matrix_HPQ)
                kept.append((*gates, cell[0], cell[1], cell[3]))
            kept_BLHP = [torch.stack(part, 1) for part in zip(*kept, strict=True)]
        ctx.save_for_backward(recurrent_HPGP, *kept_BLHP)
        return kept_BLHP[-1]

    @staticmethod
    def backward(ctx: Any, grad_BLHP: Tensor) -> tuple[Tensor, Tensor]:
        recurrent_HPGP, write, kept, z, o, closing, c, n, h = ctx.saved_tensors
        with torch.autocast(grad_BLHP.device.type, enabled=False):
            matrix_HQP = recurrent_HPGP.flatten(2).transpose(1, 2)
            # What one position's gradients are made of, for all positions at once.
            to_c, to_o = o / n, c / n * o * (1 - o)
            to_n = to_c * c / n
            before_c, before_n = (F.pad(part, (0, 0, 0, 0, 1, -1)) for part in (c, n))
            to_forget, to_z = kept * closing, write * (1 - z * z)
            grad_c = grad_n = back = torch.zeros_like(grad_BLHP[:, 0])
            rows = []
            parts = (
                grad_BLHP,
                to_c,
                to_n,
                to_o,
                to_forget,
                to_z,
                before_c,
                before_n,
                write,
                z,
                kept,
            )
            for at in reversed(list(zip(*(part.unbind(1) for part in parts), strict=True))):
                grad, c_t, n_t, o_t, forget_t, z_t, old_c, old_n, write_t, tanh_t, kept_t = at
                grad = grad + back
                grad_c = torch.addcmul(grad_c, grad, c_t)
                grad_n = torch.addcmul(grad_n, grad, n_t, value=-1)
                grad_write = torch.addcmul(grad_n, grad_c, tanh_t) * write_t
                grad_forget = torch.addcmul(grad_c * old_c, grad_n, old_n) * forget_t
                row = torch.stack((grad_write, grad_forget, grad_c * z_t, grad * o_t), 1)
                rows.append(row)
                back_HBP = torch.bmm(row.transpose(1, 2).flatten(2).transpose(0, 1), matrix_HQP)
                back = back_HBP.transpose(0, 1)
                grad_c, grad_n = grad_c * kept_t, grad_n * kept_t
            grad_BLGHP = torch.stack(rows[::-1], 1)
            before_h = F.pad(h, (0, 0, 0, 0, 1, -1))
            grad_recurrent = torch.einsum("blhp,blghq->hpgq", before_h, grad_BLGHP)
        return grad_BLGHP, grad_recurrent
