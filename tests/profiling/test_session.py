"""A measured step: its time belongs to components, its operators have times, its trace opens elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hybridlab.architecture.document import loads
from hybridlab.errors import HybridLabError, RunError
from hybridlab.profiling.record import Profile
from hybridlab.trace.calibration import (
    _FILE,
    Calibration,
    Directions,
    Factors,
    fit,
    keep,
    kept,
    nearest,
)
from hybridlab.trace.stream import OpStream
from hybridlab.workflows.profile import host_only, profile_any

pytestmark = pytest.mark.usefixtures("only_new_garbage")
TEXT = """
name: small
width: 64
nodes:
  - id: stage
    repeat: 2
    nodes:
      - {use: attention, heads: 4}
      - {use: moe, experts: 2, top_k: 1}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, machine_cache: Path) -> tuple[Profile, Path]:
    folder = tmp_path_factory.mktemp("profile")
    (folder / "home").mkdir()
    (folder / "home" / "cache").symlink_to(machine_cache, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRIDLAB_HOME", str(folder / "home"))
        found = profile_any(loads(TEXT), 16, task="mqar", steps=5, folder=folder / "trace")
    return found, folder


def test_nearly_all_time_has_a_name_and_the_rest_is_told(made: tuple[Profile, Path]) -> None:
    found, _ = made
    paths = {item.path for item in found.components}
    assert {"stage.0.attention", "stage.0.moe", "stage.1.attention", "stage.1.moe"} <= paths
    assert 0.9 < found.attributed <= 1.0 and 0.5 < found.in_components < found.attributed
    told = sum(item.ms for item in found.components) + found.unattributed_ms
    assert told == pytest.approx(sum(item.ms for item in found.components) / found.attributed)
    for item in found.components:
        if item.path.startswith("stage"):
            assert item.forward_ms > 0 and item.backward_ms > 0 and item.flops > 0
            assert item.predicted_ms is not None and item.predicted_ms > 0


def test_the_peak_was_predicted(made: tuple[Profile, Path]) -> None:
    found, _ = made
    assert found.peak_bytes_predicted == pytest.approx(found.peak_bytes_measured, rel=0.01)
    assert any("even share" in note for note in found.notes)


def test_operators_have_the_profilers_times(made: tuple[Profile, Path]) -> None:
    found, _ = made
    assert found.joined > 0.97
    took = found.stream.ops["dur_us"].to_pylist()
    assert sum(us for us in took if us) / 1e3 < found.profiled_ms.value
    products = found.stream.where(op="addmm")
    assert all(us > 0 for us in products.ops["dur_us"].to_pylist())


def test_both_ways_of_attributing_agree(made: tuple[Profile, Path]) -> None:
    """The profiler knows nodes by sequence numbers in its events, the recorder by asking autograd in the moment."""
    found, _ = made
    for item in found.components:
        assert bool(item.operators) == bool(item.ms) or item.path == "(model)"


def test_files_hold_what_was_found(made: tuple[Profile, Path]) -> None:
    found, folder = made
    found.save(folder / "out")
    told = json.loads((folder / "out" / "profile.json").read_text())
    assert told["attributed"] == found.attributed
    assert set(told["peak_bytes"]) == {"predicted", "measured"} <= set(told["step_ms"])
    assert OpStream.load(folder / "out" / "measured").source == "measured"
    assert OpStream.load(folder / "out" / "predicted").source == "predicted"
    assert found.trace is not None
    trace = json.loads(Path(found.trace).read_text())
    assert found.trace.endswith(".pt.trace.json")
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert "component: stage.1.moe" in names and "ProfilerStep#4" in names


class Mixed(nn.Module):
    """Someone's own module, with a method of its own between its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(16, 256), nn.ReLU())
        self.decode = nn.Linear(256, 4)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return self.decode(self.encode(x) * scale)


def test_any_module_is_profiled_by_its_paths_and_left_as_it_was(tmp_path: Path) -> None:
    model = Mixed().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = torch.randn(64, 16), torch.tensor(2.0)
    found = profile_any(model, batch, steps=3)
    assert {"encode.0", "encode.1", "decode", "(model)"} <= {c.path for c in found.components}
    assert found.name == "Mixed" and found.peak_bytes_predicted == found.peak_bytes_measured
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_module_that_asks_for_values_is_measured_without_a_prediction() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if float(x.sum()) < 1e9 else x

    found = profile_any(Asking(), torch.randn(2, 4), steps=2)
    assert found.peak_bytes_predicted is None and found.peak_bytes_measured > 0
    assert "no prediction" in found.notes[0]


def test_bad_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="steps: is out of range"):
        profile_any(nn.Linear(2, 2), torch.randn(1, 2), steps=0)
    with pytest.raises(HybridLabError, match="batch: is missing"):
        profile_any(nn.Linear(2, 2))
    with pytest.raises(HybridLabError, match="batch: is not a number of samples"):
        profile_any(loads(TEXT), torch.randn(2, 2))


def test_factors_are_found_where_they_are_known() -> None:
    points = [(c, w, 3.0 * c + 1.5 * w) for c, w in ((1.0, 0.1), (1.0, 2.0), (1.5, 9.0))]
    assert fit(points).overhead == pytest.approx(3.0) and fit(points).work == pytest.approx(1.5)
    only_calls = fit([(1.0, 0.0, 4.0), (2.0, 0.0, 8.0)])
    assert only_calls == Factors(pytest.approx(4.0), 0.0)
    assert fit([(0.0, 0.0, 1e-7)]) == Factors()  # nothing runs
    with pytest.raises(ValueError, match="one point"):
        fit([])


def test_a_calibration_is_kept_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    assert kept(1) == Calibration()
    mine = Directions(Factors(2.0, 3.0), Factors(4.0, 5.0))
    made = Calibration().with_components({"k": ("mlp", mine)})
    keep(made, 1)
    assert kept(1) == made and kept(2) == Calibration() == kept(1, torch.bfloat16)
    assert made.uses == {"mlp": mine}
    assert nearest(1, None) == made and nearest(1, torch.bfloat16) == replace(made, components={})
    keep(replace(made, company=(1.2, 1.1, 2.0)), 1, torch.bfloat16)
    assert kept(1) == made and kept(1, torch.bfloat16).company == (1.2, 1.1, 2.0)
    assert nearest(1, torch.bfloat16).company is not None and nearest(1, None) == made
    (tmp_path / "cache" / _FILE).write_text("{")
    assert kept(1) == Calibration()


def test_whose_times_components_have_is_told_where_they_are_not_the_devices() -> None:
    """A step on an accelerator is timed whole, and waited for; its components are timed where they are started."""
    assert host_only(torch.device("cpu")) == ()
    (note,) = host_only(torch.device("cuda", 1))
    assert "the host's" in note and "cuda:1" in note and "trace" in note
