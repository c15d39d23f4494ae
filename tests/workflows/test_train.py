"""The training workflow: what it reads from a run's record, what it leaves in the folder, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import HybridLabError, RunError, SpecError, StoreError, TaskError
from hybridlab.planning.pools.apply import Pooled
from hybridlab.runs.context import Stopped
from hybridlab.tasks.registry import task
from hybridlab.training.checkpoint import latest
from hybridlab.training.spec import make
from hybridlab.training.weights import read_tensors, weights_sha256
from hybridlab.workflows import as_trained, train
from hybridlab.workflows import weighted as reading
from tests.planning.pools.stand_in import FakePools

DESIGN = "name: small\nwidth: 8\nnodes:\n  # a comment\n  - {use: lstm}\n"
TRAINING = {
    "task": "parity",
    "task_params": {"length": 8, "longer": 12},
    "steps": 10,
    "batch": 4,
    "eval_every": 5,
    "checkpoint_every": 3,
    "device": "cpu",
}


class Record:
    """A run's record, as far as the workflow reads it."""

    def __init__(self, spec: Mapping[str, Any], attempt: int) -> None:
        self.id = "abc"
        self.spec = spec
        self.attempt = attempt


class Context:
    """A run's context that remembers what it was told."""

    def __init__(
        self, folder: Path, spec: Mapping[str, Any], *, resumed: bool = False, stop_at: int = -1
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.resumed, self.stop_at = folder, resumed, stop_at
        self.run = Record(spec, attempt=1 + resumed)
        self.metered = False
        self.points: list[tuple[int, str, float]] = []
        self.told: list[tuple[int, int]] = []
        self.truncated: list[int] = []
        self.flushes = 0

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.points += [(step, name, value) for name, value in values.items()]

    def bring_own_meters(self) -> None:
        self.metered = True

    def log_samples(self, values: Mapping[str, float]) -> None:
        self.log_metrics(self.step, values)

    @property
    def step(self) -> int:
        return self.told[-1][0] if self.told else 0

    def progress(self, step: int, steps: int) -> None:
        self.told.append((step, steps))

    def stop_requested(self) -> str | None:
        return "cancel" if self.told and self.told[-1][0] == self.stop_at else None

    def truncate_metrics(self, after_step: int) -> None:
        self.truncated.append(after_step)

    def flush(self) -> None:
        self.flushes += 1


def _spec(**changes: Any) -> dict[str, Any]:
    settings = make({**TRAINING, **changes}).model_dump(mode="json")
    return {"architecture": DESIGN, "training": json.loads(json.dumps(settings)), "preset": None}


def test_a_run_ends_with_metrics_weights_and_its_settings(tmp_path: Path) -> None:
    context = Context(tmp_path, _spec())
    result = train.run(context)  # type: ignore[arg-type]
    assert json.loads(json.dumps(result)) == result
    assert {
        "steps",
        "seconds",
        "metrics",
        "weights_sha256",
        "stop_reason",
        "baselines",
        "params",
    } <= set(result)
    assert result["steps"] == 10 and result["baselines"] == {"chance": 0.5}
    assert {"test_accuracy", "test_accuracy_12"} <= set(result["metrics"])
    assert (tmp_path / "architecture.yaml").read_text() == DESIGN
    assert make(json.loads((tmp_path / "training.json").read_text())) == make(TRAINING)
    weights = read_tensors(tmp_path / "weights.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == result["params"]
    names = {name for _, name, _ in context.points}
    assert {"loss", "learning_rate", "grad_norm", "val_accuracy", "test_accuracy"} <= names
    assert context.told == [(step, 10) for step in range(11)]
    assert context.flushes == 4, "before each checkpoint: 3, 6, 9 and the last"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    assert context.metered, "the meters of the workflow take over"
    told = json.loads((tmp_path / "meters.json").read_text())
    assert told["hz"] == 1.0
    assert "processor and memory of the process" in [one["quantity"] for one in told["measured"]]
    energy = result["energy"]
    assert (energy["steps"], energy["samples"], energy["tokens"]) == (10, 40, 320)
    assert (energy["joules"] is None) == bool(energy["not_measured"]), "a figure or a reason"
    assert energy["joules"] != 0
    assert energy["modelled"] is None


def test_a_grown_run_is_read_as_what_it_has_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    design = (
        "name: grows\nwidth: 8\nnodes:\n  # a comment\n"
        "  - {id: stage, nodes: [{use: attention, heads: 2}]}\n  - {use: lstm}\n"
    )
    stages = [{"name": "small", "until": 4}, {"name": "large", "grow": {"stage": 2}}]
    spec = {**_spec(stages=stages), "architecture": design}
    result = train.run(Context(tmp_path, spec))  # type: ignore[arg-type]
    text = (tmp_path / "architecture.yaml").read_text()
    assert "# a comment" in text and loads(text).nodes[0].repeat == 3
    weights = read_tensors(tmp_path / "weights.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == result["params"]
    assert (
        f"stage large begins after step 4: {result['params']:,} parameters"
        in capsys.readouterr().out
    )
    record = Record(spec, 1)
    monkeypatch.setattr(reading, "open_store", lambda: SimpleNamespace(get=lambda run: record))
    monkeypatch.setattr(reading, "run_folder", lambda run: tmp_path)
    model = reading.weighted(run="abc")
    assert weights_sha256(model) == result["weights_sha256"]
    assert model.architecture.nodes[1].repeat == 3, "behind the task's input"


def test_a_cancelled_run_says_so_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = train.run(Context(tmp_path / "whole", _spec()))  # type: ignore[arg-type]
    first = Context(tmp_path / "run", _spec(), stop_at=5)
    with pytest.raises(Stopped) as caught:
        train.run(first)  # type: ignore[arg-type]
    assert caught.value.reason == "cancel"
    found = latest(tmp_path / "run" / "checkpoints")
    assert found is not None and found.step == 5
    second = Context(tmp_path / "run", _spec(), resumed=True)
    result = train.run(second)  # type: ignore[arg-type]
    assert second.truncated == [5] and second.told[0] == (5, 10)
    trained = [step for step, name, _ in second.points if name == "loss"]
    assert min(trained) == 6
    assert next(step for step, name, _ in second.points if name == "val_accuracy") == 5, (
        "the validation that the wish cut short"
    )
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert result["metrics"] == whole["metrics"]
    assert result["energy"]["steps"] == 10, "both attempts, each up to where it came"
    kept = json.loads((tmp_path / "run" / "energy.json").read_text())["attempts"]
    assert [(one["from_step"], one["to_step"]) for one in kept] == [(0, 5), (5, 10)]


def test_a_store_that_is_busy_does_not_end_the_training(tmp_path: Path) -> None:
    class Busy(Context):
        def flush(self) -> None:
            raise StoreError("the store is locked")

    assert train.run(Busy(tmp_path, _spec()))["steps"] == 10  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"architecture": "name: x\nnodes: []\n"}, SpecError),
        ({"architecture": DESIGN.replace("lstm", "lstn")}, SpecError),
        ({"training": {"task": "pairity"}}, TaskError),
        ({"training": {"task": "parity", "steps": 0}}, SpecError),
        ({"training": None}, RunError),
        ({"training": {**TRAINING, "device": "cuda:7"}}, HybridLabError),
    ],
)
def test_a_record_that_is_not_right_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        train.run(Context(tmp_path, {**_spec(), **change}))  # type: ignore[arg-type]
    with pytest.raises(RunError, match="no architecture"):
        train.run(Context(tmp_path, {}))  # type: ignore[arg-type]


def test_the_seed_decides_weights_and_data(tmp_path: Path) -> None:
    digests = [
        train.run(Context(tmp_path / name, _spec(seed=seed)))["weights_sha256"]  # type: ignore[arg-type]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert loads(DESIGN).nodes and task("parity")


def test_a_training_with_pools_learns_the_same_bits_and_tells_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stand-ins for an accelerator's pools: what is around them is the training's own."""
    backend = FakePools()
    monkeypatch.setattr(
        as_trained, "pool", lambda model, pools, device: Pooled(model, pools, backend)
    )
    plain = train.run(Context(tmp_path / "plain", _spec()))  # type: ignore[arg-type]
    pools = [{"name": "mixers", "kind": "token_mixer", "backward": True}, {"name": "rest"}]
    result = train.run(Context(tmp_path / "pooled", _spec(pools=pools)))  # type: ignore[arg-type]
    assert result["weights_sha256"] == plain["weights_sha256"]
    assert "pools" not in plain and json.loads(json.dumps(result)) == result
    mixers, rest = result["pools"]
    assert (mixers["name"], mixers["components"]) == ("mixers", ["lstm"])
    assert rest["components"] == ["token_embedding", "lm_head"]
    assert all(one.uses > 10 for one in backend.made) and not backend.active
    assert "pool rest, 2 components: " in capsys.readouterr().out
