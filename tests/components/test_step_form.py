"""Reading one position at a time gives what reading all at once gives, and keeps as much state as it claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import FLOAT32_BYTES, Component, Kind, State
from hybridlab.components.types import TensorKind
from hybridlab.errors import StepError
from tests.components.cases import every_case

Build = Callable[..., Component]
Give = Callable[..., list[Tensor]]

LENGTH = 41  # longer than every window, kernel and chunk of the cases but one, and odd


def _can_step(module: Component) -> bool:
    alone = module.causal(module.params) is None
    if module.info.name in CHANGE_RATE:
        return False
    if TensorKind.IMAGE in module.accepts or (alone and module.info.name in POOLED):
        return False
    return alone or module.causal(module.params) is True


POOLED = {"classifier", "regressor", "sequence_decoder"}
CHANGE_RATE = {"downsample", "upsample"}


def _steps(module: Component, inputs: list[Tensor]) -> tuple[Tensor, list[State]]:
    state, outputs, states = module.start(inputs[0].shape[0]), [], []
    for t in range(inputs[0].shape[1]):
        output, state = module.step(state, *(x[:, t].clone() for x in inputs))
        outputs.append(output)
        states.append(state)
    return torch.stack(outputs, 1), states


@every_case
@torch.no_grad()
def test_steps_give_what_forward_gives(
    name: str, params: dict[str, Any], build: Build, give: Give
) -> None:
    module = build(name, width=16, **params).eval()
    inputs = give(module, batch=3, length=LENGTH)
    if not _can_step(module):
        with pytest.raises(StepError):
            _steps(module, inputs)
        return
    got, states = _steps(module, inputs)
    torch.testing.assert_close(got, module(*inputs), rtol=2e-4, atol=2e-5)
    for count, state in enumerate([module.start(3), *states]):
        claimed = module.state_bytes_after(module.params, module.context, count)
        parts = [part for part in state if part.is_floating_point()]
        kept = sum(part.numel() for part in parts) / 3 * FLOAT32_BYTES
        spare = 0 if module.info.kind is Kind.TOKEN_MIXER else claimed
        assert kept <= claimed
        assert kept >= claimed - spare, "it claims more state than it keeps"
        held = {
            part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts
        }
        assert sum(held.values()) / 3 <= kept, "its state holds on to memory that it does not need"
    whole = module.state_bytes(module.params, module.context)
    whole += LENGTH * module.state_bytes_per_token(module.params, module.context)
    assert claimed <= whole


@every_case
@torch.no_grad()
def test_steps_in_bfloat16_give_what_forward_gives(
    name: str, params: dict[str, Any], build: Build, give: Give
) -> None:
    """Within a few roundings of 8 bits of mantissa: states that add up are kept in float32."""
    module = build(name, width=16, **params).eval().bfloat16()
    if not _can_step(module):
        return
    inputs = [x.bfloat16() if x.is_floating_point() else x for x in give(module, length=24)]
    got, want = _steps(module, inputs)[0], module(*inputs)
    assert got.dtype == want.dtype == torch.bfloat16
    assert (got.float() - want.float()).norm() <= 0.03 * want.float().norm()


@every_case
@torch.no_grad()
def test_a_state_can_be_used_again(
    name: str, params: dict[str, Any], build: Build, give: Give
) -> None:
    """Two ways on from one state, as a search over continuations takes them, do not meet."""
    module = build(name, width=16, **params).eval()
    if not _can_step(module):
        return
    inputs = give(module, batch=2, length=6)
    _, states = _steps(module, inputs)
    once, _ = module.step(states[2], *(x[:, 3] for x in inputs))
    module.step(states[2], *(x[:, 5] for x in inputs))
    again, _ = module.step(states[2], *(x[:, 3] for x in inputs))
    assert torch.equal(once, again)
