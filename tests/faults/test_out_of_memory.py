"""Trainings run out of memory at any moment: each says so, the next one works, nothing stays behind."""

import gc
import os
import random
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import DeviceError
from hybridlab.tasks.fit import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from tests.faults.trainings import ARCHITECTURE, SHORT

pytestmark = pytest.mark.usefixtures("only_new_garbage")
TIMES = int(os.environ.get("HYBRIDLAB_OOMS", "15"))
"""How often it runs out; ``make faults`` has a hundred."""
HELD = 8 * 2**20
"""Bytes that a failing forward holds; a hundred of them kept would be 800 MiB."""


class Greedy(nn.Module):
    """A model that asks for more memory than there is at one forward, while it holds some."""

    def __init__(self, inner: nn.Module, at: int, backward: bool) -> None:
        super().__init__()
        self.inner, self.at, self.backward, self.count = inner, at, backward, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += torch.is_grad_enabled()
        output: Tensor = self.inner(x)
        if self.count != self.at:
            return output
        held = torch.ones(HELD // 4, requires_grad=True)
        if self.backward:
            return output + TooMuch.apply(held) * 0
        return output + held.sum() + torch.empty(2**50)


class TooMuch(torch.autograd.Function):
    """Keeps its input, and asks for more than there is in its backward."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.sum()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient * torch.empty(2**50)


def attempt(folder: Path, at: int | None, backward: bool = False) -> str:
    torch.set_num_threads(1)
    task, spec = prepare({**SHORT, "checkpoint_every": 12})
    model: nn.Module = build(fit(loads(ARCHITECTURE), task), seed=0)
    if at is not None:
        model = Greedy(model, at, backward)
    return train(model, task, spec, folder=folder).weights_sha256


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


@pytest.mark.timeout(600)
def test_time_after_time(tmp_path: Path) -> None:
    wanted = attempt(tmp_path / "first", None)
    chance = random.Random(7)
    for number in range(5):  # what is allocated once, is
        with pytest.raises(DeviceError):
            attempt(tmp_path / f"warm{number}", 3 + number, backward=number % 2 == 0)
    before = resident()
    for number in range(TIMES):
        with pytest.raises(DeviceError, match="do not fit into the memory of cpu"):
            attempt(tmp_path / f"{number}", chance.randint(3, 20), backward=number % 2 == 0)
        if number % 20 == 0:
            assert attempt(tmp_path / f"after{number}", None) == wanted
    assert attempt(tmp_path / "last", None) == wanted
    assert resident() < 1.05 * before
