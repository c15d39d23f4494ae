"""What a training tells about its components equals what one computes by hand from gradients and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.training import component_metrics
from hybridlab.training.component_metrics import addresses, interval, over_repeats
from hybridlab.training.loop import train
from hybridlab.training.spec import TrainSpec
from tests.training.conftest import Tiny

Settings = Callable[..., TrainSpec]
NESTED = """\
name: nested
width: 8
nodes:
  - id: stage
    repeat: 2
    residual: pre
    nodes:
      - {use: attention, heads: 2}
      - {use: moe, experts: 3, top_k: 1}
  - id: tied
    repeat: 2
    tie: true
    nodes:
      - {use: lstm}
"""


def nested(parity: Task, seed: int = 0) -> GraphModel:
    return build(fit(loads(NESTED), parity), parity.input_type(), seed=seed)


def told(
    model: torch.nn.Module, task: Task, spec: TrainSpec, folder: Path
) -> dict[int, dict[str, float]]:
    """Train, and return what came of the components by step."""
    seen: dict[int, dict[str, float]] = {}

    def note(step: int, values: dict[str, float]) -> None:
        if any("/" in name for name in values):
            assert step not in seen
            seen[step] = values

    train(model, task, spec, folder=folder, on_metrics=note)
    return seen


@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_updates_and_loads_are_those_of_the_update(
    settings: Settings, tmp_path: Path, parity: Task, accumulation: int
) -> None:
    spec = settings(steps=1, clip_norm=0.01, accumulation=accumulation)
    model, twin = nested(parity), nested(parity)
    found = told(model, parity, spec, tmp_path)[1]

    twin.train()
    batch = parity.train_batch(0, spec.batch, spec.seed)
    for part in batch.split(accumulation):
        loss = parity.loss(twin(part.inputs), part)
        asked = twin.aux_loss()
        ((loss if asked is None else loss + asked) / accumulation).backward()
    gradients = {name: p.grad for name, p in twin.named_parameters()}
    after = dict(model.named_parameters())

    # The module names of torch, with the addresses that their weights count for.
    modules = {
        "stage": "root.stage.",
        "stage.0": "root.stage.0.",
        "stage.1.moe": "root.stage.1.moe.",
        "tied": "root.tied.",
        "tied.lstm": "root.tied.body.lstm.",
        "token_embedding": "root.token_embedding.",
    }
    held = {address: [n for n in after if n.startswith(m)] for address, m in modules.items()}
    held["stage.attention"] = [n for n in after if ".attention." in n]
    assert any("stage.norm" in name for name in held["stage"]), "the group's own norm counts for it"
    for address, names in held.items():
        assert names
        gradient = torch.cat([gradients[n].flatten() for n in names]).norm()  # type: ignore[union-attr]
        before = torch.cat([twin.get_parameter(n).detach().flatten() for n in names])
        change = torch.cat([after[n].detach().flatten() for n in names]) - before
        assert found[f"grad_norm/{address}"] == pytest.approx(float(gradient), rel=1e-4)
        ratio = float(change.norm() / before.norm())
        assert found[f"update_ratio/{address}"] == pytest.approx(ratio, rel=1e-4)
    reports = twin.reports()
    for repeat in (0, 1):
        for expert, share in enumerate(reports[f"stage.{repeat}.moe"]["load"]):  # type: ignore[arg-type]
            assert found[f"expert_load/stage.{repeat}.moe/{expert}"] == pytest.approx(share)
    mean = [found[f"expert_load/stage.moe/{expert}"] for expert in range(3)]
    apart = [[found[f"expert_load/stage.{r}.moe/{e}"] for e in range(3)] for r in (0, 1)]
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(*apart, strict=True)])


def test_they_come_as_often_as_asked_and_change_nothing(
    settings: Settings, tmp_path: Path, parity: Task
) -> None:
    weights = []
    for every, steps in ((0, []), (4, [1, 4, 8, 12, 16, 20]), (None, [1, 20])):
        model = nested(parity)
        spec = settings(component_metrics_every=every, steps=22)
        seen = told(model, parity, spec, tmp_path / str(every))
        assert list(seen) == steps
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_a_long_training_tells_about_two_hundred_times(settings: Settings) -> None:
    assert [interval(settings(steps=steps)) for steps in (5, 2_000, 100_000)] == [20, 20, 500]
    assert interval(settings(component_metrics_every=0)) == 0


def test_addresses_are_paths_groups_and_repeats_together() -> None:
    assert addresses("a.1.b.c") == ["a", "a.1", "a.1.b", "a.1.b.c", "a.b", "a.b.c"]
    assert addresses("head") == ["head"]
    assert over_repeats("a.1.b.12.c") == "a.b.c"


def test_many_components_are_told_without_their_repeats(
    settings: Settings, tmp_path: Path, parity: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component_metrics, "MOST_ADDRESSES", 5)
    found = told(nested(parity), parity, settings(steps=1), tmp_path)[1]
    assert "grad_norm/stage.moe" in found and "expert_load/stage.moe/0" in found
    assert not [
        name for name in found if any(step.isdigit() for step in name.split("/")[1].split("."))
    ]


def test_a_model_without_components_has_none(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny(parity)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.inner(x)
            return result

    assert told(Wrapped(), parity, settings(), tmp_path) == {}
