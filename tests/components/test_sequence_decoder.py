"""The head of compression: what it tells, it tells from the last position alone, by the paper's decoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import Component
from hybridlab.components.heads.sequence_decoder import sines_and_cosines

Build = Callable[..., Component]


def _rms(x: Tensor, scale: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale


def test_it_is_the_decoder_of_the_paper_position_by_position(build: Build) -> None:
    head = build("sequence_decoder", width=16, vocab=9)
    weights = dict(head.named_parameters())
    x = torch.randn(3, 7, 16)
    got = head(x)
    for t in range(7):
        angles = [t / 10_000 ** (i / 7) for i in range(8)]
        where = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
        y = x[:, -1] + where
        for layer in ("first", "second"):
            y = _rms(y, weights[f"{layer}_norm.scale"])
            y = F.gelu(F.linear(y, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
        y = _rms(y, weights["norm.scale"])
        want = F.linear(y, weights["unembedding.weight"], weights["unembedding.bias"])
        torch.testing.assert_close(got[:, t], want, rtol=1e-4, atol=1e-5)


def test_it_sees_nothing_but_the_last_position(build: Build) -> None:
    head = build("sequence_decoder", width=16, vocab=9)
    x = torch.randn(2, 7, 16)
    other = torch.cat([torch.randn(2, 6, 16), x[:, -1:]], dim=1)
    assert torch.equal(head(x), head(other))
    assert not torch.allclose(head(x)[:, 0], head(x)[:, 1])


def test_positions_differ_and_odd_widths_have_them_too() -> None:
    for width in (1, 2, 5, 64):
        positions = sines_and_cosines(50, width, torch.zeros(1))
        assert positions.shape == (50, width) and positions.isfinite().all()
    assert torch.cdist(positions, positions).fill_diagonal_(1.0).min() > 0.1
