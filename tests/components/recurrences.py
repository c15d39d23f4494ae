"""How the tests of recurrent layers compare outputs and gradients, and the recurrence that judges RWKV-7."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def agree(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for place, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.isfinite().all(), f"{place} is not finite"
        error = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-3))
        assert error < tolerance, f"{place} is off by {error}"


def with_grads(
    function: Callable[..., Tensor], leaves: list[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """Return the output and the gradients of all leaves for a fixed random direction."""
    given = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    output = function(*given)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output.detach(), *torch.autograd.grad(output, given, direction.to(dtype))]


def dplr(r: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor) -> Tensor:
    """fla's naive recurrence, (B, L, H, K): S = w S + b (a S) + k v, o = r S."""
    state = torch.zeros(*k.shape[:1], *k.shape[2:], v.shape[-1], dtype=k.dtype)
    rows = []
    for r_t, k_t, v_t, a_t, b_t, w_t in zip(
        *(part.unbind(1) for part in (r, k, v, a, b, log_decay.exp())), strict=True
    ):
        read = (state * a_t[..., None]).sum(-2, keepdim=True)
        state = state * w_t[..., None] + k_t[..., None] * v_t[..., None, :] + read * b_t[..., None]
        rows.append(torch.einsum("bhd,bhdm->bhm", r_t, state))
    return torch.stack(rows, 1)
