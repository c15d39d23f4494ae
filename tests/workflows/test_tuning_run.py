"""The workflow that tunes: what it leaves, what it keeps for the machine, and training with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError, SpecError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.tuning import store
from hybridlab.planning.tuning.record import Tuning
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.spec import make
from hybridlab.workflows import train, tuning_run
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.tuning import tune_training
from tests.workflows.test_fusion_run import TRAINING, Context
from tests.workflows.test_train import Context as Trained

DESIGN = "name: small\nwidth: 16\nnodes:\n  - {id: a, use: linear_attention, heads: 2}\n  - {use: swiglu}\n"


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)  # as few rounds as there may be
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))


def test_ways_are_measured_and_kept(tmp_path: Path) -> None:
    context = Context(tmp_path, architecture=DESIGN, **{"for": "training"})
    result = tuning_run.run(context)  # type: ignore[arg-type]
    assert context.told == [(done, 3) for done in range(4)]
    found = json.loads((tmp_path / tuning_run.FILE).read_text())
    assert Tuning.read(found["tuning"]).training
    assert found["applied"] is result["applied"] and found["ratio"]["value"] == result["ratio"]
    (one,) = found["judged"]
    assert one["component"] == "linear_attention of 4 x 32 x 16" and one["designed"] == 64
    assert [tried["value"] for tried in one["tried"]] == [16]


def test_the_machine_remembers_unless_it_was_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    for cores, kept in ((1.0, 0), (0.0, 1)):
        monkeypatch.setattr(Others, "cores", lambda self, cores=cores: cores)
        tune_training(loads(DESIGN), TRAINING, folder=tmp_path)
        assert len(store.kept(tmp_path, "cpu", threads)) == kept
    again = tune_training(loads(DESIGN), TRAINING, folder=tmp_path)
    assert "before" in again.judged[0].why
    anew = tune_training(loads(DESIGN), TRAINING, folder=tmp_path, again=True)
    assert "before" not in anew.judged[0].why


def test_what_has_no_one_step_is_refused(tmp_path: Path) -> None:
    several = {**TRAINING, "stages": [{"name": "a", "until": 3}, {"name": "b"}]}
    with pytest.raises(SpecError, match="is not tuned: the model changes from stage to stage"):
        tune_training(loads(DESIGN), several, folder=tmp_path)
    with pytest.raises(SpecError, match="take out tuning"):
        make({**several, "tuning": {}})


def sixteen() -> Tuning:
    task, spec = prepare(TRAINING)
    model = build(fit(loads(DESIGN), task), task.input_type(), seed=spec.seed)
    return Tuning(fingerprint=model.architecture.fingerprint, training=True, chunk={"a": 16})


def test_a_tuned_training_learns_the_same_but_for_rounding(tmp_path: Path) -> None:
    settings = {**TRAINING, "steps": 6, "eval_every": 3, "checkpoint_every": 3}
    weights = []
    for name, more in (("plain", {}), ("tuned", {"tuning": sixteen().as_dict()})):
        folder = tmp_path / name
        context: Any = Trained(folder, {"architecture": DESIGN, "training": settings | more})
        train.run(context)
        (file,) = folder.glob("weights*.safetensors")
        weights.append(load_file(file))
    plain, tuned = weights
    assert list(plain) == list(tuned)
    assert any(not torch.equal(one, tuned[key]) for key, one in plain.items())  # it did run so
    for key, one in plain.items():
        assert torch.allclose(one, tuned[key], rtol=1e-3, atol=1e-5), key


def test_tunings_that_do_not_fit_are_refused_before_a_run() -> None:
    assert prepared(DESIGN, {**TRAINING, "tuning": sixteen().as_dict()})
    for change in ({"fingerprint": "x"}, {"training": False}, {"chunk": {"b": 16}}, {"more": 1}):
        with pytest.raises(RunError, match="tuning"):
            prepared(DESIGN, {**TRAINING, "tuning": sixteen().as_dict() | change})
