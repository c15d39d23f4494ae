"""Matrix memories: linear attention, decays, the delta rule, and both, at extremes and in special cases."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers import fla_kernels, matrix_memory
from hybridlab.components.token_mixers.delta_chunks import delta_chunks, unit_lower_inverse
from hybridlab.components.token_mixers.gla_chunks import gla_chunks
from hybridlab.components.token_mixers.matrix_memory import (
    kernel_of,
    recall,
    recall_loop,
    recall_step,
    unit_length,
)

Build = Callable[..., Component]
ContextFor = Callable[..., BuildContext]

LENGTH = 150
LOG_DECAYS = {
    "keeps all": [0.0],
    "forgets all": [-1e4],
    "keeps or forgets": [0.0, 0.0, 0.0, -1e4],
    "every size": [0.0, -1e-6, -0.1, -3.0, -15.0, -25.0, -90.0, -1e4, -1e30],
    "at the limit of exponents": [-87.0, -88.8, -103.0],
}
DECAY_SHAPES = {
    "none": None,
    "constant": (2,),
    "head": (2, LENGTH, 2),
    "feature": (2, LENGTH, 2, 5),
}


def _drawn(shape: str, kind: str = "every size", delta: bool = True) -> dict[str, Tensor | None]:
    """Draw queries, keys of length one, values, decays and betas up to two."""
    q, k, v = (torch.randn(2, LENGTH, 2, size) for size in (5, 5, 7))
    choices, sizes = torch.tensor(LOG_DECAYS[kind]), DECAY_SHAPES[shape]
    decay = None if sizes is None else choices[torch.randint(len(choices), sizes)]
    beta = torch.rand(2, LENGTH, 2).mul(2) if delta else None
    return {"q": q, "k": unit_length(k), "v": v, "decay": decay, "beta": beta}


def _run(form: Callable[..., Tensor], given: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Return the output and every gradient for a fixed random direction."""
    leaves = {
        name: x.detach().clone().requires_grad_() for name, x in given.items() if x is not None
    }
    output = form(*(leaves.get(name) for name in given))
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(output, list(leaves.values()), direction.to(output.dtype))
    return {"output": output.detach()} | {
        f"gradient of {name}": grad for name, grad in zip(leaves, grads, strict=True)
    }


@pytest.mark.parametrize("kind", LOG_DECAYS)
@pytest.mark.parametrize("chunk", [8, 32, 128])
@pytest.mark.parametrize("shape", DECAY_SHAPES)
@pytest.mark.parametrize("delta", [False, True])
def test_a_memory_at_any_decay(kind: str, chunk: int, shape: str, delta: bool) -> None:
    _check_memory(_drawn(shape, kind, delta), chunk)


def _check_memory(given: dict[str, Tensor | None], chunk: int) -> None:
    got = _run(lambda *parts: recall(*parts, chunk=chunk), given)
    wide = {name: None if x is None else x.double() for name, x in given.items()}
    for what, want in _run(recall_loop, wide).items():
        assert got[what].isfinite().all(), f"{what} is not finite"
        error = (got[what].double() - want).norm() / want.norm().clamp(min=1.0)
        assert error < (2e-4 if what == "output" else 1e-3), f"{what} is off by {error}"


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("chunks", [1, 3])
def test_gradients_written_by_hand(size: int, chunks: int) -> None:
    def draw(*shape: int) -> Tensor:
        return torch.rand(1, chunks, 16, *shape, dtype=torch.float64).sub(0.5).requires_grad_()

    q, k, v, beta = draw(4), draw(4), draw(3), draw()
    total = draw(size).detach().sub(0.5).cumsum(-2).requires_grad_()
    assert torch.autograd.gradcheck(gla_chunks, (q, k, v, total), fast_mode=True)
    assert torch.autograd.gradcheck(gla_chunks, (q, k, v, None), fast_mode=True)
    state = torch.rand(1, 4, 3, dtype=torch.float64).sub(0.5).requires_grad_()
    for before in (None, state):
        assert torch.autograd.gradcheck(
            delta_chunks, (q, k, v, total, beta, before), fast_mode=True
        )


@pytest.mark.parametrize("kind", ["keeps or forgets", "every size"])
@pytest.mark.parametrize("shape", DECAY_SHAPES)
@pytest.mark.parametrize("segment", [16, 64])
def test_segments_hand_on_the_state(
    shape: str, kind: str, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long sequence is taken segment after segment: outputs and gradients are those of the loop."""
    monkeypatch.setattr(matrix_memory, "SEGMENT", segment)
    _check_memory(_drawn(shape, kind), chunk=16)


@pytest.mark.parametrize("size", [4, 8, 64, 128])
@pytest.mark.parametrize("entries", ["equal keys", "turning", "random"])
def test_inverse_keeps_its_precision(size: int, entries: str) -> None:
    """Equal keys written in full: the powers of the matrix reach 10^18, its inverse is -1 below the diagonal."""
    if entries == "random":
        keys = unit_length(torch.randn(5, size, 16))
        matrix = (keys @ keys.transpose(-1, -2)).tril(-1)
    else:
        matrix = torch.full((5, size, size), 1.0 if entries == "equal keys" else 2.0).tril(-1)
    got = unit_lower_inverse(matrix)
    want = torch.linalg.inv(matrix.double() + torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_equal_keys_overwrite_each_other() -> None:
    """What is read is the last value alone, however often its key was written."""
    k = unit_length(torch.randn(1, 1, 1, 8)).expand(1, 200, 1, 8)
    v = torch.randn(1, 200, 1, 4)
    o = recall(k, k, v, None, torch.ones(1, 200, 1), chunk=64)
    torch.testing.assert_close(o, v, rtol=1e-4, atol=1e-4)


def test_orthogonal_keys_are_recalled_exactly() -> None:
    k = torch.linalg.qr(torch.randn(32, 32))[0].view(1, 32, 1, 32)
    v = torch.randn(1, 32, 1, 4)
    q = k[:, torch.randperm(32)]
    both, asked = torch.cat((k, q), 1), torch.cat((v, torch.zeros_like(v)), 1)
    beta = torch.cat((torch.ones(1, 32, 1), torch.zeros(1, 32, 1)), 1)
    o = recall(both, both, asked, None, beta, chunk=16)[:, 32:]
    weights = (q[0, :, 0] @ k[0, :, 0].T).round()
    torch.testing.assert_close(o[0, :, 0], weights @ v[0, :, 0], rtol=1e-4, atol=1e-4)


def test_one_mixer_becomes_another() -> None:
    """A decay of nothing is none; one that all features share is the head's; a constant one is each position's."""
    q, k, v, decay, beta = _drawn("head", "keeps all").values()
    assert q is not None and k is not None and v is not None and decay is not None
    for gate in (None, beta):
        torch.testing.assert_close(
            recall(q, k, v, decay, gate, chunk=32), recall(q, k, v, None, gate, chunk=32)
        )
        shared = torch.full_like(decay, -0.3)
        want = recall(q, k, v, shared, gate, chunk=32)
        every = shared.unsqueeze(-1).expand(-1, -1, -1, 5)
        torch.testing.assert_close(
            recall(q, k, v, every, gate, chunk=32), want, rtol=1e-4, atol=1e-5
        )
        constant = torch.full((2,), -0.3)
        torch.testing.assert_close(recall(q, k, v, constant, gate, chunk=32), want)


@pytest.mark.parametrize("shape", DECAY_SHAPES)
@pytest.mark.parametrize("delta", [False, True])
def test_steps_of_a_memory(shape: str, delta: bool) -> None:
    q, k, v, decay, beta = _drawn(shape, delta=delta).values()
    assert q is not None and k is not None and v is not None
    state, rows = torch.zeros(2, 2, 5, 7), []
    for t in range(20):
        now = decay if decay is None or decay.dim() == 1 else decay[:, t]
        gate = None if beta is None else beta[:, t]
        row, state = recall_step(state, q[:, t], k[:, t], v[:, t], now, gate)
        rows.append(row)
    want = recall_loop(q, k, v, decay, beta)[:, :20]
    torch.testing.assert_close(torch.stack(rows, 1), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["head", "feature"])
def test_backward_inside_autocast_stays_wide(shape: str) -> None:
    given = _drawn(shape)
    want = _run(lambda *parts: recall(*parts, chunk=32), given)
    with torch.autocast("cpu", torch.bfloat16):
        got = _run(lambda *parts: recall(*parts, chunk=32), given)
    for what, tensor in got.items():
        torch.testing.assert_close(tensor, want[what], msg=what)


@pytest.mark.parametrize("name", ["gated_delta_net", "delta_net", "kimi_delta_attention"])
def test_a_negative_gate_reaches_past_one(name: str, build: Build) -> None:
    """With a gate of two the state turns its sign along the key: the reflection that parity needs."""
    module = build(name, width=16, heads=2, conv=0, negative=True)
    mixed, others = module.split(torch.randn(3, 40, 16) * 30)
    beta = module.written(mixed, others, 0).beta
    assert beta.min() < 0.01 and 1.9 < beta.max() <= 2


def test_weights_of_the_normaliser_add_up_to_one(build: Build) -> None:
    module = build("linear_attention", width=16, heads=2)
    with torch.no_grad():
        module.project_in.weight[-16:] = 0
    mixed, others = module.split(torch.randn(2, 30, 16))
    q, k, v = module.written(mixed, others, 0)[:3]
    v = v.clone()
    v[..., :-1] = 3.0
    o = recall(q, k, v, chunk=8)
    torch.testing.assert_close(o[..., :-1] / o[..., -1:], torch.full((2, 30, 2, 8), 3.0))


REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        name,
        {"heads": 6},
        ["heads: 6 does not divide width 64 (expected a divisor of 64, got 6); try 4 or 8"],
    )
    for name in ("gated_delta_net", "delta_net", "kimi_delta_attention", "lightning_attention")
] + [
    (
        "gated_delta_net",
        {"key_heads": 3},
        ["key_heads: 3 does not divide heads 4 (expected a divisor of 4, got 3); try 2 or 4"],
    ),
    ("gated_delta_net", {"heads": 6, "key_dim": 8, "value_dim": 8}, []),
    (
        "linear_attention",
        {"feature_map": "identity"},
        [
            "normalise: weights of both signs can add up to nothing (expected a feature map without "
            "negative values, or normalise: false, got feature_map: identity); "
            "set normalise: false, or feature_map: elu"
        ],
    ),
    (
        "retention",
        {"key_dim": 5},
        [
            "key_dim: positions turn pairs of features, but a key has 5 (expected an even number, "
            "got 5); change heads or key_dim"
        ],
    ),
]


@pytest.mark.parametrize(("name", "params", "sentences"), REFUSED)
def test_refusals_name_the_parameter_and_a_fix(
    name: str, params: dict[str, Any], sentences: list[str], context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    problems = list(cls.check(cls.Params(**params), context_for(name)))
    assert [problem.sentence() for problem in problems] == sentences


STATES: list[tuple[str, dict[str, Any], float]] = [
    # name, parameters, numbers that stay; width 64
    ("gated_delta_net", {}, 4 * 16 * 16 + 3 * 3 * 64),
    (
        "gated_delta_net",
        {"key_heads": 2, "key_dim": 8, "value_dim": 32},
        4 * 8 * 32 + 3 * (2 * 16 + 128),
    ),
    ("delta_net", {"conv": 0}, 4 * 16 * 16),
    ("kimi_delta_attention", {"conv": 2}, 4 * 16 * 16 + 3 * 64),
    ("linear_attention", {}, 4 * 16 * 17),
    ("linear_attention", {"normalise": False}, 4 * 16 * 16),
    ("retention", {}, 4 * 16 * 32),
    ("lightning_attention", {}, 4 * 16 * 16),
]


@pytest.mark.parametrize(("name", "params", "numbers"), STATES)
def test_state_bytes(
    name: str, params: dict[str, Any], numbers: float, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == 0
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == numbers * 4


def test_kernels_fall_back_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_of(torch.zeros(1)) == "plain"
    if not torch.cuda.is_available():
        assert fla_kernels.missing() == "fla's kernels need a GPU that torch can use"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = fla_kernels.missing.__wrapped__()
    assert reason == "fla's kernels need the package fla: pip install 'hybridlab[gpu]'"


@pytest.mark.gpu
@pytest.mark.skipif(bool(fla_kernels.missing()), reason=fla_kernels.missing() or "fla is there")
@pytest.mark.parametrize("shape", DECAY_SHAPES)
@pytest.mark.parametrize("delta", [False, True])
def test_fla_computes_the_same(shape: str, delta: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, LENGTH, 2, 32, device="cuda") for _ in range(3))
    sizes = {"none": None, "constant": (2,), "head": q.shape[:3], "feature": q.shape}[shape]
    decay = None if sizes is None else -torch.rand(sizes, device="cuda")
    beta = torch.rand(q.shape[:3], device="cuda") if delta else None
    assert kernel_of(v) == "fla"
    got = recall(q, unit_length(k), v, decay, beta, chunk=64)
    want = recall_loop(q, unit_length(k), v, decay, beta)
    assert (got - want).norm() < 0.01 * want.norm()
