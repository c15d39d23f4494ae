"""Caches grow by a policy: the same is read, states stay valid, and room and copies are as many as promised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import Component, State
from hybridlab.components.growing import Growth, PolicyName, appended, growing
from tests.components.test_step_form import _can_step

Build = Callable[..., Component]
Give = Callable[..., list[Tensor]]
GROWING: list[tuple[str, dict[str, Any]]] = [
    ("attention", {"heads": 2}),
    ("latent_attention", {"heads": 2}),
    ("sparse_attention", {"heads": 2}),
    ("differential_attention", {"heads": 2}),
    ("cross_attention", {"heads": 2}),
    ("hyena", {}),
    ("long_conv", {"filter": "implicit"}),
]


def test_these_are_all_whose_state_grows(build: Build) -> None:
    from hybridlab.components.registry import palette

    found = set()
    for name, info in palette().items():
        module = build(name, width=16, **dict(GROWING).get(name, {}))
        grows = module.state_bytes_per_token(module.params, module.context) > 0
        if info.kind == "token_mixer" and grows and _can_step(module):
            found.add(name)
    assert found == {name for name, _ in GROWING}


def _read(module: Component, inputs: list[Tensor]) -> tuple[Tensor, State]:
    state, outputs = module.start(inputs[0].shape[0]), []
    for now in zip(*(x.unbind(1) for x in inputs), strict=True):
        output, state = module.step(state, *now)
        outputs.append(output)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize(("name", "params"), GROWING, ids=[name for name, _ in GROWING])
@torch.no_grad()
def test_every_policy_reads_the_same(
    name: str, params: dict[str, Any], build: Build, give: Give
) -> None:
    module = build(name, width=16, **params).eval()
    if not _can_step(module):
        module = build(name, width=16, causal=True, **params).eval()
    inputs, length = give(module, batch=3, length=37), 37
    want, _ = _read(module, inputs)
    each = 3 * module.state_bytes_per_token(module.params, module.context)
    fixed = 3 * module.state_bytes(module.params, module.context)
    policies: tuple[tuple[PolicyName, int, int], ...] = (
        ("exact", 37, 37 * 36 // 2),
        ("doubling", 64, 16 + 32),
        ("reserved", 40, 0),
    )
    for policy, rows, moved in policies:
        with growing(policy, 40) as growth:
            got, state = _read(module, inputs)
        torch.testing.assert_close(got, want)
        assert (growth.rows(length), growth.moved_rows(length)) == (rows, moved)
        assert growth.copied_bytes == moved * each
        floats = [part.untyped_storage() for part in state if part.is_floating_point()]
        held = {storage.data_ptr(): storage.nbytes() for storage in floats}
        assert sum(held.values()) == fixed + rows * each


@pytest.mark.parametrize("policy", ["exact", "doubling", "reserved"])
@torch.no_grad()
def test_two_ways_on_from_one_state_do_not_meet(
    policy: PolicyName, build: Build, give: Give
) -> None:
    module = build("attention", width=16, heads=2).eval()
    (x,) = give(module, batch=2, length=6)
    with growing(policy, 32):
        _, state = _read(module, [x[:, :3]])
        kept = [part.clone() for part in state]
        once, after = module.step(state, x[:, 3])
        other, _ = module.step(state, x[:, 5])
        again, _ = module.step(state, x[:, 3])
        on, _ = module.step(after, x[:, 4])
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert all(map(torch.equal, state, kept))
    want, _ = _read(module, [x[:, :5]])
    torch.testing.assert_close(on, want[:, 4])


def test_gradients_flow_as_without_a_policy() -> None:
    new = torch.ones(1, 1, 2, requires_grad=True)
    with growing("doubling"):
        cache = appended(torch.zeros(1, 0, 2), new, 1)
        cache = appended(cache, 2 * new, 1)
    cache.sum().backward()  # type: ignore[no-untyped-call]
    assert new.grad is not None and new.grad.tolist() == [[[3.0, 3.0]]]


def test_room_beyond_what_was_reserved_doubles() -> None:
    growth = Growth("reserved", 24)
    assert [growth.rows(count) for count in (0, 1, 24, 25, 49)] == [0, 24, 24, 48, 96]
    assert growth.moved_rows(49) == 24 + 48
