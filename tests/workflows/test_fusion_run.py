"""The workflow that measures what fuses: what it reads of a record, what it leaves, how it stops and is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError, SpecError
from hybridlab.planning import turns
from hybridlab.planning.fusion.find import find, together
from hybridlab.planning.fusion.record import Fusion
from hybridlab.runs.context import Stopped
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import make
from hybridlab.workflows import fusion_run, train
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.profile import training_step
from tests.workflows.test_train import Context as Trained

DESIGN = "name: small\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n  - {use: swiglu}\n"
TRAINING: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 32, "longer": 32},
    "batch": 4,
    "device": "cpu",
}


class Context:
    """A run's context that remembers what it was told."""

    def __init__(self, folder: Path, stop_after: int = 99, **more: Any) -> None:
        self.folder, self.stop_after = folder, stop_after
        spec = {"architecture": DESIGN, "training": TRAINING, "for": "inference"} | more
        self.run = SimpleNamespace(id="abc", spec=spec, threads=1)
        self.told: list[tuple[int, int]] = []

    def progress(self, step: int, steps: int) -> None:
        self.told.append((step, steps))

    def stop_requested(self) -> str | None:
        return "cancel" if len(self.told) >= self.stop_after else None


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)  # as few rounds as there may be


@pytest.mark.parametrize("purpose", ["inference", "training"])
def test_what_fuses_is_measured_and_kept(tmp_path: Path, purpose: str) -> None:
    context = Context(tmp_path, **{"for": purpose})
    result = fusion_run.run(context)  # type: ignore[arg-type]
    assert context.told == [(done, 4) for done in range(5)]
    found = json.loads((tmp_path / fusion_run.FILE).read_text())
    assert Fusion.read(found["fusion"]).training is (purpose == "training")
    assert found["applied"] is result["applied"] and found["ratio"]["value"] == result["ratio"]
    assert len(found["judged"]) >= 2 and found["ratio"]["n"] == turns.FEWEST_ROUNDS
    assert (tmp_path / "architecture.yaml").read_text() == DESIGN


def test_it_stops_between_its_parts(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fusion_run.run(Context(tmp_path, stop_after=1))  # type: ignore[arg-type]
    assert not (tmp_path / fusion_run.FILE).exists()


def test_a_record_that_is_not_right_is_refused(tmp_path: Path) -> None:
    for wrong in ({"for": "fun"}, {"training": 3}):
        with pytest.raises(RunError, match="purpose"):
            fusion_run.run(Context(tmp_path, **wrong))  # type: ignore[arg-type]
    several = {**TRAINING, "stages": [{"name": "a", "until": 3}, {"name": "b"}]}
    with pytest.raises(SpecError, match="from stage to stage"):
        fusion_run.run(Context(tmp_path, training=several))  # type: ignore[arg-type]


def fused_for_training() -> Fusion:
    """Return everything that can be fused in the design's training, faster or not."""
    task, spec = prepare(TRAINING)
    model = build(fit(loads(DESIGN), task), task.input_type(), seed=0)
    step = training_step(model, task, spec)
    found = find(model, step.inputs, training=True)
    assert found.candidates
    return together([one.fusion for one in found.candidates])


def test_a_fused_training_learns_the_same_but_for_rounding(tmp_path: Path) -> None:
    settings = {**TRAINING, "steps": 6, "eval_every": 3, "checkpoint_every": 3}
    weights = []
    for name, more in (("plain", {}), ("fused", {"fusion": fused_for_training().as_dict()})):
        folder = tmp_path / name
        context = Trained(folder, {"architecture": DESIGN, "training": settings | more})
        train.run(context)  # type: ignore[arg-type]
        (file,) = folder.glob("weights*.safetensors")
        weights.append(load_file(file))
    plain, fused = weights
    assert list(plain) == list(fused)
    for key, one in plain.items():
        assert torch.allclose(one, fused[key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": False}, "made for inference"),
        ({"fingerprint": "another"}, "another architecture"),
        ({"products": [["nowhere", "else"]]}, "no linear map"),
        ({"more": 1}, "fusion.more"),
    ],
)
def test_fusions_that_do_not_fit_are_refused_before_a_run(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        prepared(DESIGN, {**TRAINING, "fusion": fused_for_training().as_dict() | change})


def test_a_fusion_stands_alone() -> None:
    stages = [{"name": "a", "until": 3}, {"name": "b"}]
    with pytest.raises(SpecError, match="take out fusion"):
        make({**TRAINING, "fusion": {}, "stages": stages})
