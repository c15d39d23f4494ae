"""What a student is to make small, against the papers' equations written out; how positions are mixed, likewise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.components.base import Component
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers.naive_attention import turned_as_complex
from hybridlab.components.types import sequence
from hybridlab.training.teacher_losses import hidden_loss, logits_loss, matrix_loss, same_heads

LENGTH, WIDTH = 21, 8


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def _softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def test_logits_loss_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 5).double(), 3 * torch.randn(3, 4, 5).double()
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]]).bool()
    temperature, total, answers = 2.5, 0.0, 0
    for given, wanted, scored in zip(
        student.reshape(-1, 5).tolist(),
        teacher.reshape(-1, 5).tolist(),
        mask.flatten().tolist(),
        strict=True,
    ):
        if scored:
            q, p = _softmax(given, temperature), _softmax(wanted, temperature)
            total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
            answers += 1
    found = logits_loss(student, teacher, mask, temperature)
    assert float(found) == pytest.approx(temperature**2 * total / answers, rel=1e-12)


def test_its_gradient_is_equation_two_with_the_square_of_the_temperature() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(1, 6).double().requires_grad_(), torch.randn(1, 6).double()
    temperature = 3.0
    logits_loss(student, teacher, torch.tensor([True]), temperature).backward()
    q, p = (_softmax(row[0].tolist(), temperature) for row in (student.detach(), teacher))
    wanted = [temperature**2 * (a - b) / temperature for a, b in zip(q, p, strict=True)]
    assert student.grad is not None
    assert student.grad[0].tolist() == pytest.approx(wanted, rel=1e-10)


def test_nothing_is_asked_where_nothing_is_scored_and_nothing_is_left_to_learn_of_oneself() -> None:
    logits = torch.randn(2, 5)
    assert float(logits_loss(logits, 2 * logits, torch.zeros(2).bool(), 1.0)) == 0.0
    assert float(logits_loss(logits, logits, torch.ones(2).bool(), 4.0)) == 0.0


def test_hidden_loss_is_the_mean_square_over_the_teachers() -> None:
    torch.manual_seed(2)
    student, teacher = torch.randn(2, 3, 4).double(), 50 * torch.randn(2, 3, 4).double()
    pairs = list(zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
    wanted = sum((a - b) ** 2 for a, b in pairs) / sum(b**2 for _, b in pairs)
    assert float(hidden_loss(student, teacher)) == pytest.approx(wanted, rel=1e-12)
    assert float(hidden_loss(torch.zeros_like(teacher), teacher)) == pytest.approx(1.0)


def test_matrix_loss_is_the_mean_frobenius_norm() -> None:
    torch.manual_seed(3)
    student, teacher = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    norms = [
        math.sqrt(
            sum(
                (a - b) ** 2
                for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)
            )
        )
        for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True)
    ]
    assert float(matrix_loss(student, teacher)) == pytest.approx(sum(norms) / 6, rel=1e-12)
    zero = student.clone().requires_grad_()
    matrix_loss(zero, student).backward()
    assert zero.grad is not None and torch.isfinite(zero.grad).all(), "no NaN where all is alike"


@pytest.mark.parametrize(
    ("heads", "others", "common"), [(4, 4, 4), (4, 2, 2), (2, 6, 2), (4, 6, 1)]
)
def test_heads_of_another_number_are_means_of_neighbours(
    heads: int, others: int, common: int
) -> None:
    one, other = torch.randn(1, heads, 3, 3), torch.randn(1, others, 3, 3)
    found = same_heads(one, other)
    assert [part.shape[1] for part in found] == [common, common]
    for given, kept in zip((one, other), found, strict=True):
        size = given.shape[1] // common
        torch.testing.assert_close(kept[:, 0], given[:, :size].mean(1))


def _body(use: str, **params: Any) -> Component:
    written = "".join(f", {name}: {str(value).lower()}" for name, value in params.items())
    text = f"name: x\nwidth: {WIDTH}\nnodes:\n  - {{id: it, use: {use}{written}, residual: none}}\n"
    return dict(build(loads(text), sequence(WIDTH), seed=3).slots())["it"].body.double()


@pytest.mark.parametrize(
    "params", [{}, {"kv_heads": 1}, {"window": 4}, {"causal": False}, {"qk_norm": True, "conv": 3}]
)
@torch.no_grad()
def test_the_matrix_of_attention_is_its_softmax_written_out(params: dict[str, Any]) -> None:
    body: Any = _body("attention", heads=2, **params)
    x_BLD = torch.randn(2, LENGTH, WIDTH).double()
    projected = body.project_in(x_BLD)
    if body.conv is not None:
        projected = body.conv.reference(projected)
    q, k, _ = body._heads(*projected.split(body._sizes, dim=-1))
    q, k = (turned_as_complex(part, body.params) for part in (q, k))
    found = body.mixing_matrix(x_BLD)
    window = params.get("window") or LENGTH
    causal = params.get("causal", True)
    for head in range(2):
        shared = head // (2 // k.shape[1])
        for t in range(LENGTH):
            seen = [
                s for s in range(LENGTH) if (s <= t if causal else True) and abs(t - s) < window
            ]
            scores = torch.stack([q[:, head, t] @ k[:, shared, s].T for s in seen])
            scores = torch.stack([row.diagonal() for row in scores], -1) / math.sqrt(WIDTH // 2)
            wanted = torch.zeros(2, LENGTH).double()
            wanted[:, seen] = torch.softmax(scores, -1)
            torch.testing.assert_close(found[:, head, t], wanted, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("params", [{}, {"groups": 2}, {"chunk": 4}])
@torch.no_grad()
def test_the_matrix_of_mamba2_is_its_recurrence_written_out(params: dict[str, Any]) -> None:
    body: Any = _body("mamba2", heads=2, state=3, **params)
    x_BLD = torch.randn(2, LENGTH, WIDTH).double()
    _, mixed, step = torch.split(body.project_in(x_BLD), body.sizes, dim=-1)
    _, write, read = body._parts(body.conv.reference(mixed))
    dt, log_decay = body._steps(step)
    found = body.mixing_matrix(x_BLD)
    for head in range(2):
        group = head * write.shape[2] // 2
        for t in range(LENGTH):
            for s in range(LENGTH):
                wanted = torch.zeros(2).double()
                if s <= t:
                    decay = torch.ones(2).double()
                    for between in range(s + 1, t + 1):
                        decay = decay * log_decay[:, between, head].exp()
                    wanted = (
                        (read[:, t, group] * write[:, s, group]).sum(-1) * decay * dt[:, s, head]
                    )
                if s == t:
                    wanted = wanted + body.skip[head]
                torch.testing.assert_close(found[:, head, t, s], wanted, atol=1e-10, rtol=1e-6)


ABLE = sorted(
    name
    for name, info in palette().items()
    if info.cls.mixing_matrix is not Component.mixing_matrix
)


def _mixed_by(body: Any, x_BLD: Tensor) -> Tensor:
    """Return what a component gives where its matrix, and not its own form, mixes the values."""
    matrix = body.mixing_matrix(x_BLD)
    if body.info.name == "attention":
        _, _, v = body._turned(x_BLD)
        return body._out(matrix @ v.repeat_interleave(body.heads // body.kv_heads, 1), x_BLD)
    if body.info.name == "mamba2":
        gate, mixed, _ = torch.split(body.project_in(x_BLD), body.sizes, dim=-1)
        x_BLHP, _, _ = body._parts(body.conv(mixed))
        y_BLHP = (matrix @ x_BLHP.transpose(1, 2)).transpose(1, 2)
        return body._gated(y_BLHP - x_BLHP * body.skip.unsqueeze(-1), x_BLHP, gate)
    if body.info.name == "gated_linear_attention":
        v = body._written(x_BLD)[2]
        return body._gated((matrix @ v.transpose(1, 2)).transpose(1, 2), x_BLD)
    written, others = body._all_written(x_BLD)
    values = written.values
    if body.info.name == "linear_attention":  # its last column adds up the weights, here one
        values = torch.cat((values[..., :-1], torch.ones_like(values[..., :1])), -1)
    return body.out((matrix @ values.transpose(1, 2)).transpose(1, 2), others)


@pytest.mark.parametrize("use", ABLE)
@torch.no_grad()
def test_every_matrix_takes_values_to_what_the_component_gives(use: str) -> None:
    torch.manual_seed(6)
    body: Any = _body(use, heads=2)
    x_BLD = torch.randn(2, LENGTH, WIDTH).double()
    matrix = body.mixing_matrix(x_BLD)
    assert matrix.shape == (2, 2, LENGTH, LENGTH)
    assert not matrix.triu(1).abs().max() > 1e-12, "nothing later is seen"
    # some compute sums in float32 whatever they are given
    torch.testing.assert_close(_mixed_by(body, x_BLD), body(x_BLD), atol=2e-6, rtol=1e-5)


def test_who_says_how_it_mixes() -> None:
    assert {"attention", "mamba2", "linear_attention", "gated_linear_attention"} <= set(ABLE)
    assert {"delta_net", "gated_delta_net", "retention", "lightning_attention"} <= set(ABLE)
    assert "lstm" not in ABLE
