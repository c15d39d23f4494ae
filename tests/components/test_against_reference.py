"""Each efficient form against the naive form of its paper: output and every gradient.

The reference runs in float64 on weights and inputs that bfloat16 holds exactly, so one truth judges all
precisions: float32, weights in bfloat16, and float32 weights under autocast, as training has them. Errors are
norms over norms: float32 may be off by 1e-5 forward and 1e-4 backward, bfloat16 (8 bits of mantissa, 4e-3 a
rounding) and autocast by 0.03 and 0.06. A gradient far smaller than the others of its
module is judged against a hundredth of the largest, because its rounding comes from sums of that size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import Component
from tests.components.cases import every_case

Build = Callable[..., Component]
Give = Callable[..., list[Tensor]]

WIDTH = 16
LENGTHS = [1, 2, 63, 64, 257]
PRECISIONS = [
    # dtype of weights and inputs, under autocast to bfloat16, errors allowed forward and backward
    (torch.float32, False, 1e-5, 1e-4),
    (torch.bfloat16, False, 0.03, 0.06),
    (torch.float32, True, 0.03, 0.06),
]


@pytest.mark.parametrize("length", LENGTHS)
@every_case
def test_efficient_form_is_the_paper(
    name: str, params: dict[str, Any], length: int, build: Build, give: Give
) -> None:
    module = build(name, width=WIDTH, **params).bfloat16()
    batch = 1 if length == max(LENGTHS) else 3
    inputs = [_narrow(x) for x in give(module, batch=batch, length=length)]
    truth = copy.deepcopy(module).double()
    want, want_grads = _run(truth, truth.reference, inputs, torch.float64)
    floor = 0.01 * max([float(g.norm()) for g in want_grads.values()], default=0.0)
    for dtype, mixed, forward, backward in PRECISIONS:
        told = f"{dtype}{', under autocast' if mixed else ''}"
        twin = copy.deepcopy(module).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            got, got_grads = _run(twin, twin, inputs, dtype)
        assert got.dtype in {dtype, *[torch.bfloat16] * mixed} and got.shape == want.shape, told
        assert (error := _error(got, want)) <= forward, f"output, {told}: {error}"
        for key, grad in want_grads.items():
            assert got_grads[key].dtype == dtype
            error = _error(got_grads[key], grad, floor)
            assert error <= backward, f"gradient of {key}, {told}: {error}"


def _narrow(x: Tensor) -> Tensor:
    return x.bfloat16() if x.dtype.is_floating_point else x


def _run(
    module: Component, form: Callable[..., Tensor], inputs: list[Tensor], dtype: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and the gradients of inputs and parameters for a fixed random direction."""
    given = [
        x.detach().to(dtype, copy=True).requires_grad_() if x.dtype.is_floating_point else x
        for x in inputs
    ]
    output = form(*given)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    if output.requires_grad:
        with torch.autocast("cpu", enabled=False):
            output.backward(direction.bfloat16().to(output.dtype))
    leaves = dict(module.named_parameters()) | {
        f"input {i}": x for i, x in enumerate(given) if x.requires_grad
    }
    grads = {}
    for name, leaf in leaves.items():
        assert leaf.grad is not None, f"{name} gets no gradient"
        grads[name] = leaf.grad
    return output.detach(), grads


def _error(got: Tensor, want: Tensor, floor: float = 0.0) -> float:
    difference = (got.double() - want.double()).norm()
    return float(difference / max(float(want.norm()), floor, 1e-30))
