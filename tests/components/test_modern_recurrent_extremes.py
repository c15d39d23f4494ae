"""mLSTM and RWKV at their extremes: gates that close or burst, decays at their limits, gradients by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import Component
from hybridlab.components.token_mixers.mlstm_chunks import mlstm
from hybridlab.components.token_mixers.rwkv7 import LARGEST_RATE
from hybridlab.components.token_mixers.rwkv7_chunks import rwkv7
from hybridlab.components.token_mixers.slstm_scan import slstm
from hybridlab.components.token_mixers.wkv4 import wkv4
from tests.components.recurrences import agree, dplr, with_grads

Build = Callable[..., Component]

LOG_FORGETS = {
    "keeps all": [0.0],
    "forgets all": [-1e4],
    "keeps or forgets": [0.0, 0.0, 0.0, -1e4],
    "every size": [0.0, -1e-6, -0.1, -3.0, -25.0, -90.0, -1e4],
}
LOG_WRITES = {
    "ordinary": [0.0, 1.0, -1.0],
    "closed": [-200.0],
    "every size": [-1e3, -90.0, 0.0, 9.0],
}


def _drawn(choices: list[float], *shape: int) -> Tensor:
    return torch.tensor(choices)[torch.randint(len(choices), shape)]


def _mlstm_by_steps(q: Tensor, k: Tensor, v: Tensor, write: Tensor, log_forget: Tensor) -> Tensor:
    c = torch.zeros(*k.shape[:1], *k.shape[2:], v.shape[-1], dtype=k.dtype)
    n, m = torch.zeros_like(k[:, 0]), torch.zeros_like(write[:, 0])
    rows = []
    for q_t, k_t, v_t, i_t, f_t in zip(
        *(part.unbind(1) for part in (q, k, v, write, log_forget)), strict=True
    ):
        before, m = m, torch.maximum(f_t + m, i_t).detach()
        kept, written = (f_t + before - m).exp()[..., None], (i_t - m).exp()[..., None]
        n = kept * n + written * k_t
        c = kept[..., None] * c + (written * k_t)[..., None] * v_t[..., None, :]
        below = torch.maximum((n * q_t).sum(-1).abs(), (-m).exp()) + 1e-6
        rows.append((q_t[..., None] * c).sum(-2) / below[..., None])
    return torch.stack(rows, 1)


@pytest.mark.parametrize("writes", LOG_WRITES)
@pytest.mark.parametrize("forgets", LOG_FORGETS)
def test_mlstm_at_any_gate(writes: str, forgets: str) -> None:
    leaves = [torch.randn(2, 150, 2, size) for size in (5, 5, 7)]
    leaves += [_drawn(LOG_WRITES[writes], 2, 150, 2), _drawn(LOG_FORGETS[forgets], 2, 150, 2)]
    want = with_grads(_mlstm_by_steps, leaves, torch.float64)
    for chunk in (7, 64):
        got = with_grads(lambda *x, chunk=chunk: mlstm(*x, chunk), leaves, torch.float32)
        # Sums of logs of size 1e4 are known to 1e-3 and a few of those in float32.
        agree(got, want, 2e-2 if -1e4 in LOG_FORGETS[forgets] else 1e-4)


@pytest.mark.parametrize("chunk", [2, 32, 64])
@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("alike", [False, True])
def test_rwkv7_at_the_limits_of_its_decays(chunk: int, rate: float, alike: bool) -> None:
    """Rows that keep all or fade fastest, and keys that are all the same or all different."""
    r, k, v = (torch.randn(2, 150, 2, size) for size in (5, 5, 7))
    unit = F.normalize(k[:, :1].expand_as(k) if alike else k, dim=-1)
    decay = _drawn([0.0, -LARGEST_RATE, -1e-6], 2, 150, 2, 5)
    leaves = [r, k, v, -unit, unit * rate, decay]
    want = with_grads(dplr, leaves, torch.float64)
    agree(with_grads(lambda *x: rwkv7(*x, chunk), leaves, torch.float32), want, 2e-4)


def _wkv_of_pairs(k: Tensor, v: Tensor, rate: Tensor, bonus: Tensor) -> Tensor:
    at = torch.arange(k.shape[1])
    age = (at[:, None] - 1 - at)[..., None]
    logs = torch.where(age == -1, bonus, -age * rate).masked_fill(age < -1, float("-inf"))
    return ((logs + k.unsqueeze(1)).softmax(2) * v.unsqueeze(1)).sum(2)


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("rate", [0.0, 1e-3, 3.0, 1e5])
def test_rwkv4_at_any_weight(size: float, rate: float) -> None:
    leaves = [torch.randn(2, 150, 6) * size, torch.randn(2, 150, 6)]
    leaves += [torch.rand(6) * rate, torch.randn(6)]
    got = with_grads(wkv4, leaves, torch.float32)
    # Log weights of size 300 are known to 3e-5 in float32.
    agree(got, with_grads(_wkv_of_pairs, leaves, torch.float64), 1e-4 if size < 300 else 2e-3)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_gradients_written_by_hand_are_right(length: int) -> None:
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    rate = (torch.rand(3, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(wkv4, (draw(2, length, 3), draw(2, length, 3), rate, draw(3)))
    assert torch.autograd.gradcheck(slstm, (draw(2, length, 4, 2, 2), draw(2, 2, 4, 2)))


@pytest.mark.parametrize("name", ["rwkv4", "rwkv7"])
def test_compiled_gradients_are_the_same(name: str, build: Build) -> None:
    """A compiler takes the steps themselves in place of the gradient that is written by hand."""
    module, x = build(name, width=16), torch.randn(2, 40, 16)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    agree(*(with_grads(form, [x], torch.float32) for form in (compiled, module)), 1e-4)
