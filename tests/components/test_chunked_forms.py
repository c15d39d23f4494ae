"""The chunked scans at extreme decays, and no loop over time in any efficient form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import Component, Kind
from hybridlab.components.decayed_scan import states_before
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers.matrix_memory import SEGMENT, recall
from hybridlab.components.token_mixers.ssd_chunks import ssd

Build = Callable[..., Component]

LENGTH = 150
LOG_DECAYS = {
    "keeps all": [0.0],
    "forgets all": [-1e4],
    "keeps or forgets": [0.0, 0.0, 0.0, -1e4],
    "every size": [0.0, -1e-6, -0.1, -3.0, -15.0, -25.0, -90.0, -1e4, -1e30],
    "at the limit of exponents": [-87.0, -88.8, -103.0],
}


def _decays(kind: str, shape: tuple[int, ...]) -> Tensor:
    choices = torch.tensor(LOG_DECAYS[kind])
    return choices[torch.randint(len(choices), shape)]


def _recurrence(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """Step through S = exp(a) S + k v and o = q S for (B, L, H, ...) in float64."""
    state = torch.zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3], dtype=torch.float64)
    rows = []
    for q_t, k_t, v_t, a_t in zip(
        *(x.double().unbind(1) for x in (q, k, v, log_decay)), strict=True
    ):
        state = a_t.exp().unsqueeze(-1) * state + k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
        rows.append((q_t.unsqueeze(-1) * state).sum(-2))
    return torch.stack(rows, 1)


def _grads(output: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad(output, leaves, direction.to(output.dtype)))


def _compare(got: Tensor, want: Tensor, tolerance: float, what: str) -> None:
    got, want = got.detach(), want.detach()
    assert got.isfinite().all(), f"{what} is not finite"
    error = float((got.double() - want).norm() / want.norm().clamp(min=1.0))
    assert error < tolerance, f"{what} is off by {error}"


@pytest.mark.parametrize("kind", LOG_DECAYS)
@pytest.mark.parametrize("chunk", [8, 32, 128])
def test_gated_linear_attention_at_any_decay(kind: str, chunk: int) -> None:
    q, k, v = (torch.randn(2, LENGTH, 2, size).requires_grad_() for size in (5, 5, 7))
    decay = _decays(kind, (2, LENGTH, 2, 5)).requires_grad_()
    got, want = recall(q, k, v, decay, chunk=chunk), _recurrence(q, k, v, decay)
    _compare(got, want, 2e-4, "output")
    leaves = {"q": q, "k": k, "v": v, "decay": decay}
    for name, a, b in zip(
        leaves, _grads(got, [*leaves.values()]), _grads(want, [*leaves.values()]), strict=True
    ):
        _compare(a, b, 1e-3, f"gradient of {name}")


@pytest.mark.parametrize("kind", LOG_DECAYS)
@pytest.mark.parametrize("chunk", [7, 64])
def test_state_space_at_any_decay(kind: str, chunk: int) -> None:
    x = torch.randn(2, LENGTH, 2, 6).requires_grad_()
    write, read = (torch.randn(2, LENGTH, 1, 5).requires_grad_() for _ in range(2))
    dt = torch.rand(2, LENGTH, 2).mul(2).requires_grad_()
    decay = _decays(kind, (2, LENGTH, 2)).requires_grad_()
    got = ssd(x, dt, decay, write, read, chunk)
    want = _recurrence(
        read.expand(-1, -1, 2, -1),
        write.expand(-1, -1, 2, -1),
        x * dt.unsqueeze(-1),
        decay.unsqueeze(-1).expand(-1, -1, -1, 5),
    )
    _compare(got, want, 2e-4, "output")
    leaves = {"x": x, "dt": dt, "decay": decay, "write": write, "read": read}
    for name, a, b in zip(
        leaves, _grads(got, [*leaves.values()]), _grads(want, [*leaves.values()]), strict=True
    ):
        _compare(a, b, 1e-3, f"gradient of {name}")


@pytest.mark.parametrize("scale", [1e-6, 30.0, 1e4])
@pytest.mark.parametrize("name", [n for n, i in palette().items() if i.kind is Kind.TOKEN_MIXER])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixers_stay_finite_on_inputs_of_any_size(
    name: str, scale: float, dtype: torch.dtype, build: Build
) -> None:
    module = build(name, width=16).to(dtype)
    x = (torch.randn(2, 70, 16) * scale).to(dtype).requires_grad_()
    output = module(*[x] * module.min_inputs)
    output.float().sum().backward()
    assert output.isfinite().all()
    for what, leaf in [*module.named_parameters(), ("input", x)]:
        assert leaf.grad is not None and leaf.grad.isfinite().all(), what


@pytest.mark.parametrize("chunks", [1, 2, 15, 16, 17, 300])
def test_states_between_chunks(chunks: int) -> None:
    """Groups of sixteen, groups of groups, and the padding of both."""
    updates = torch.randn(2, chunks, 3, 4, dtype=torch.float64, requires_grad=True)
    decays = (-torch.rand(2, chunks, 3, dtype=torch.float64)).requires_grad_()
    state, want = torch.zeros(2, 3, 4, dtype=torch.float64), []
    for update, decay in zip(updates.unbind(1), decays.unbind(1), strict=True):
        want.append(state)
        state = decay.exp().unsqueeze(-1) * state + update
    got = states_before(updates, decays)
    torch.testing.assert_close(got, torch.stack(want, 1))
    if chunks > 1:
        leaves = [updates, decays]
        for a, b in zip(_grads(got, leaves), _grads(torch.stack(want, 1), leaves), strict=True):
            torch.testing.assert_close(a, b)


def _graph_nodes(output: Tensor) -> int:
    """Count the steps that backward will take."""
    seen: set[Any] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [after for after, _ in node.next_functions]
    return len(seen)


SEQUENCE_TO_SEQUENCE = [
    name
    for name, info in palette().items()
    if info.kind not in (Kind.INPUT, Kind.HEAD) and info.cls.max_inputs == 1
]
LONG_ENOUGH: dict[str, dict[str, Any]] = {
    "gated_linear_attention": {"heads": 2},
    "mlp_mixer": {"length": 4096, "hidden": 8},
}
"""Parameters with which a component runs at width 8 and 4,096 positions."""
IN_SEGMENTS = ("delta_net", "gated_delta_net", "kimi_delta_attention")
A_SEGMENT = 30
"""Most steps of backward that a segment of the delta rule may add."""


@pytest.mark.parametrize("name", SEQUENCE_TO_SEQUENCE)
def test_no_loop_over_time(name: str, build: Build) -> None:
    """Backward takes as many steps for 4,096 positions as for 256, and a few for groups of groups.

    A loop over time that indexes x[:, t] makes each step's gradient as large as the whole sequence, so
    that backward grows with the square of the length. The delta rule takes segments of a thousand positions one after
    the other, which ``torch.split`` cuts for all of them at once: each adds the steps of a segment, and no more.
    """
    module = build(name, width=8, **LONG_ENOUGH.get(name, {}))
    short, long = (
        _graph_nodes(module(torch.randn(1, n, 8, requires_grad=True))) for n in (256, 4096)
    )
    allowed = short * 16 if module.loops else short + 40
    if name in IN_SEGMENTS:
        allowed = short + A_SEGMENT * (4096 // SEGMENT - 1)
    assert long <= allowed, f"{short} steps at 256 positions, {long} at 4,096"


def test_a_loop_over_time_would_be_noticed(build: Build) -> None:
    module = build("lstm", width=8)
    short, long = (
        _graph_nodes(module.reference(torch.randn(1, n, 8, requires_grad=True))) for n in (16, 64)
    )
    assert long > short + 40


def test_window_attention_is_linear_in_length(build: Build) -> None:
    """What backward keeps grows with the length, not with its square."""
    module = build("attention", width=8, window=16, heads=2)
    kept = []
    for length in (256, 2048):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            module(torch.randn(1, length, 8))
        kept.append(sum(sizes))
    assert kept[1] < 8.5 * kept[0]
