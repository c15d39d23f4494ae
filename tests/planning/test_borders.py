"""What a step only moves: found at the border where it is, and nowhere between the components of presets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset
from hybridlab.planning.borders import borders, total_ms
from hybridlab.trace.step import TrainingStep
from hybridlab.workflows.one_step import one_step


class Turn(nn.Module):
    """Writes (B, L, D) as (B, D, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.map(x_BLD).transpose(1, 2)


class Reader(nn.Module):
    """Copies what it reads into one piece, and casts it."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 3)

    def forward(self, x_BDL: Tensor) -> Tensor:
        return self.map(x_BDL.contiguous()).double()


def test_copies_and_casts_are_counted_where_they_are() -> None:
    model = nn.Sequential(Turn(), Reader())
    step = TrainingStep(model, (torch.randn(5, 6, 4),), loss=None)
    found = {(one.writer, one.reader): one for one in borders(step)}
    assert set(found) == {("0.map", "1"), ("1.map", "1")}  # of plain modules the innermost counts
    turned, cast = found["0.map", "1"], found["1.map", "1"]
    assert (turned.copied_bytes, turned.cast_bytes) == (5 * 6 * 4 * 4, 0)
    assert (cast.copied_bytes, cast.cast_bytes) == (5 * 4 * 3 * 4,) * 2
    assert all(one.ms > 0 for one in found.values())
    assert total_ms(list(found.values())) == sum(one.ms for one in found.values())


@pytest.mark.parametrize("name", ["falcon_h1_mini", "samba_mini", "conv_attention_image"])
def test_presets_hand_over_without_copies(name: str) -> None:
    """A layout of hand-overs has nothing to gain: all components take and give (B, L, D) as it lies."""
    settings = {"task": "digits_sequence", "batch": 2, "device": "cpu"}
    step = one_step(loads(preset(name).text()), settings, training=True, verb="lay out")
    assert not [one for one in borders(step) if one.writer != one.reader]
