"""The profile workflow: what it reads from a run's record, what it leaves in the folder, and how it stops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.profiling.session import STAGES
from hybridlab.runs import launcher
from hybridlab.runs.context import Stopped
from hybridlab.runs.home import run_folder
from hybridlab.runs.launcher import submit
from hybridlab.runs.store import open_store
from hybridlab.tasks.registry import fit, task
from hybridlab.trace.stream import OpStream
from hybridlab.training.result import WEIGHTS
from hybridlab.training.weights import write_tensors
from hybridlab.workflows import profile_run
from hybridlab.workflows.profile import profile_settings
from hybridlab.workflows.weighted import final_weights

DESIGN = "name: small\nwidth: 8\nnodes:\n  - {use: min_gru}\n"
TRAINING = {
    "task": "parity",
    "task_params": {"length": 8, "longer": 12},
    "batch": 4,
    "device": "cpu",
}


class Context:
    """A run's context that remembers what it was told."""

    def __init__(self, folder: Path, spec: Mapping[str, Any], stop_after: int = 99) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder, self.stop_after = folder, stop_after
        self.run = SimpleNamespace(id="abc", spec=spec)
        self.told: list[tuple[int, int]] = []

    def progress(self, step: int, steps: int) -> None:
        self.told.append((step, steps))

    def stop_requested(self) -> str | None:
        return "cancel" if len(self.told) >= self.stop_after else None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, machine_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "cache").symlink_to(machine_cache, target_is_directory=True)
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    monkeypatch.setattr(launcher, "_spawn", lambda *given: SimpleNamespace(poll=lambda: None))


def spec(**profile: Any) -> dict[str, Any]:
    return {"architecture": DESIGN, "training": TRAINING, "profile": {"steps": 2, **profile}}


def test_figures_streams_and_classes_are_left_behind(tmp_path: Path) -> None:
    context = Context(tmp_path / "run", spec())
    result = profile_run.run(context)  # type: ignore[arg-type]
    assert [step for step, _ in context.told[:6]] == list(range(6))
    assert context.told[-1] == (len(STAGES), len(STAGES))
    folder = tmp_path / "run" / "profile"
    figures = json.loads((folder / "profile.json").read_text())
    assert figures["step_ms"] == json.loads(json.dumps(result["step_ms"]))
    assert "components" not in result
    assert {item["path"] for item in figures["components"]} >= {"min_gru"}
    assert OpStream.load(folder / "measured").flops == OpStream.load(folder / "predicted").flops > 0
    assert (tmp_path / "run" / "architecture.yaml").read_text() == DESIGN
    classes = pq.read_table(folder / "report" / "class_classes.parquet").to_pylist()
    assert {row["length"] for row in classes} == {8, 12}
    sizes = pq.read_table(folder / "report" / "size_sizes.parquet").to_pylist()
    assert {(row["length"], row["batch"]) for row in sizes} == {
        (length, batch) for length in (4, 8, 16) for batch in (1, 4)
    }
    assert figures["energy"]["joules"] is not None or figures["energy"]["not_measured"]
    assert all(item["grad_norm"] > 0 for item in figures["components"] if item["path"] == "min_gru")
    roofline = pq.read_table(folder / "report" / "roofline.parquet").to_pylist()
    assert "min_gru" in {row["component"] for row in roofline}
    assert "sentence" in pq.read_schema(folder / "report" / "findings.parquet").names
    assert list(folder.glob("*.pt.trace.json*"))


def test_an_update_that_reads_values_is_profiled_without_a_prediction_and_says_so() -> None:
    groups = [{"name": "all", "optimiser": "adafactor"}]
    found = profile_settings(loads(DESIGN), {**TRAINING, "groups": groups}, steps=2)
    assert found.step_ms_measured.value > 0 and found.peak_bytes_measured > 0
    assert found.peak_bytes_predicted is None
    (note,) = found.notes
    assert "not predicted" in note and "asks for values" in note


def test_it_stops_between_two_stages(tmp_path: Path) -> None:
    context = Context(tmp_path / "run", spec(), stop_after=2)
    with pytest.raises(Stopped):
        profile_run.run(context)  # type: ignore[arg-type]
    assert context.told == [(0, len(STAGES)), (1, len(STAGES))]
    assert not (tmp_path / "run" / "profile" / "profile.json").exists()


def test_other_runs_beside_it_are_told(tmp_path: Path) -> None:
    other = submit("train", "other", {}, threads=1)
    context = Context(tmp_path / "run", spec())
    assert profile_run.others(context) == 0  # type: ignore[arg-type]
    open_store().leases.claim(other.id, "token", pid=1, birth="", granted="cpu")
    assert profile_run.others(context) == 1  # type: ignore[arg-type]


def test_the_weights_are_those_of_the_training_that_is_named(tmp_path: Path) -> None:
    trained = submit("train", "trained", {}, threads=1)
    with pytest.raises(RunError, match="has no final weights"):
        final_weights(trained.id)
    file = run_folder(trained.id) / WEIGHTS
    what = task("parity", **TRAINING["task_params"])  # type: ignore[arg-type]
    model = build(fit(loads(DESIGN), what), what.input_type(), seed=5)
    for parameter in model.parameters():
        parameter.data.zero_()
    write_tensors(model.state_dict(), file)
    context = Context(tmp_path / "run", spec(weights_of=trained.id))
    profile_run.run(context)  # type: ignore[arg-type]
    rows = pq.read_table(
        tmp_path / "run" / "profile" / "report" / "class_classes.parquet"
    ).to_pylist()
    (longer,) = [row for row in rows if row["length"] == 12]
    targets = next(iter(what.evaluation("test_12"))).targets[: longer["samples"]]
    # Weights of zero always answer 0.
    assert longer["score"] == pytest.approx(targets.eq(0).float().mean().item())


@pytest.mark.parametrize("broken", [{}, {"architecture": DESIGN}, {**spec(), "profile": {}}])
def test_a_record_that_lacks_something_is_told(tmp_path: Path, broken: Mapping[str, Any]) -> None:
    with pytest.raises(RunError, match="no architecture, settings and number of steps"):
        profile_run.run(Context(tmp_path / "run", broken))  # type: ignore[arg-type]
