"""How residual branches start: smaller with depth, or as nothing; and a resumed run is bit-equal all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridlab.errors import SpecError
from hybridlab.tasks.base import Task
from hybridlab.training.loop import train
from hybridlab.training.spec import TrainSpec
from hybridlab.training.start import start
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]
NODES = (
    "use: attention, heads: 2",
    "use: moe, experts: 2",
    "use: lstm",
    "use: mlp, residual: none",
)


def test_depth_scaled_divides_the_last_maps_by_the_root_of_the_residuals(
    tiny: Tiny, settings: Settings, parity: Task
) -> None:
    model, twin = tiny(parity, *NODES), tiny(parity, *NODES)
    assert start(model, settings(residual_init="depth_scaled", residual_scale=0.5)) == ["lstm"]
    changed = {}
    for (name, now), (_, old) in zip(
        model.named_parameters(), twin.named_parameters(), strict=True
    ):
        if not torch.equal(now, old):
            changed[name] = float(now.detach().norm() / old.detach().norm())
    wanted = {"attention.body.project_out.weight", "moe.body.experts_out"}
    assert {name.removeprefix("root.") for name in changed} == wanted
    assert list(changed.values()) == pytest.approx([0.5 / 3**0.5] * 2)


def test_a_zero_start_is_the_network_without_its_branches_and_resumes_to_the_bit(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    spec = settings(residual_init="zero", residual_parts="mlp*", component_metrics_every=2)
    nodes = ("use: mlp", "use: mlp", "use: gru")
    model, bare = tiny(parity, *nodes), tiny(parity, "use: gru")
    start(model, spec)
    own = dict(model.named_parameters())
    bare.load_state_dict({name: own[name] for name, _ in bare.named_parameters()}, strict=False)
    tokens = parity.train_batch(0, 4, 0).inputs
    assert torch.equal(model(tokens), bare(tokens))

    whole = train(tiny(parity, *nodes), parity, spec, folder=tmp_path / "whole")
    stops = iter([None] * 6 + ["cancel"])
    train(
        tiny(parity, *nodes), parity, spec, folder=tmp_path / "cut", should_stop=lambda: next(stops)
    )
    again = train(tiny(parity, *nodes), parity, spec, folder=tmp_path / "cut", resume=True)
    assert again.weights_sha256 == whole.weights_sha256


def test_a_start_for_nothing_is_told(tiny: Tiny, settings: Settings, parity: Task) -> None:
    with pytest.raises(SpecError, match="fits no component that has a residual") as caught:
        start(tiny(parity, *NODES), settings(residual_init="zero", residual_parts="mamba*"))
    assert "attention, moe, lstm" in (caught.value.problems[0].expected or "")
