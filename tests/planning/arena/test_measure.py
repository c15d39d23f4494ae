"""What an arena is worth is measured: peaks by memory events, times in turns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.planning.arena.measure import measure_arena, peak_bytes


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return x


def test_peaks_are_those_that_a_pass_must_have() -> None:
    x = torch.randn(128, 64)
    one = x.numel() * 4
    found = measure_arena(Stack().eval(), x, rounds=3)
    assert found.report.arena_bytes == found.report.bound_bytes == 2 * one
    assert 2 * one <= found.arena_peak_bytes < 2 * one + 2048
    assert 2 * one <= found.plain_peak_bytes < 3 * one + 2048
    assert 17 * one <= found.apart_peak_bytes < 17 * one + 2048
    assert found.below_apart > 8
    assert min(found.plain_ms.value, found.arena_ms.value, found.ratio.value) > 0
    assert found.as_dict()["report"]["inside_ops"] == 16


def test_the_peak_of_a_run_counts_what_is_there_at_once() -> None:
    def run() -> Tensor:
        first = torch.zeros(1000)
        second = first + 1
        del first
        return second + 1

    assert 8000 <= peak_bytes(run, torch.device("cpu")) < 8100
