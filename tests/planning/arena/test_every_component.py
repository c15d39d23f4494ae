"""Every component that stands alone gives the plain answer bit by bit from an arena."""

from __future__ import annotations

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.components.registry import palette
from hybridlab.planning.arena.inference import PlannedPass
from hybridlab.planning.arena.trials import same_bits

_ONE_INPUT = [
    info.name
    for info in palette().values()
    if str(info.kind) in ("token_mixer", "channel_mixer", "norm")
    and info.cls.min_inputs == info.cls.max_inputs == 1
]


@pytest.mark.parametrize("use", _ONE_INPUT)
def test_every_component_runs_in_an_arena(use: str) -> None:
    text = (
        "name: one\nwidth: 32\nnodes:\n  - {use: token_embedding, vocab: 32}\n"
        f"  - {{use: {use}}}\n  - {{use: lm_head, vocab: 32}}\n"
    )
    model = build(loads(text), seed=0).eval()
    drawn = torch.Generator().manual_seed(0)
    planned = PlannedPass(model, torch.randint(32, (2, 12), generator=drawn))
    x = torch.randint(32, (2, 12), generator=drawn)
    with torch.no_grad():
        assert same_bits(planned(x), model(x))
    assert planned.report.over_bound <= 0.035
