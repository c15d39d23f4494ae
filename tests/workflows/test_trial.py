"""A trial's training: compared with the others at its rungs, stopped where they are better, else whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.errors import RunError
from hybridlab.runs.context import Stopped
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.halving import PRICES, RUNGS, judge
from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.places import opened, place_of
from hybridlab.search.samplers import make_sampler
from hybridlab.search.study import open_storage, open_study
from hybridlab.workflows import trial, trial_times
from tests.workflows.test_train import Context, _spec


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The record of trial 3 of a study in which three others have come to 5 steps."""
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    landscape = ClosedFormLandscape(ClosedForm(blocks=2))
    study = open_study(
        landscape,
        make_sampler("random", landscape),
        storage=open_storage(place_of("one")),
        name="one",
    )
    for peak in (1.0, 2.0, 3.0, 4.0):
        one = study.ask()
        one.set_user_attr(PRICES, [None, peak])
        if peak < 4:
            assert judge(study, one.number, 5, 2.0 + peak, 3)
    about = {"study": "one", "trial": 3, "metric": "val_accuracy", "eta": 3, "rungs": [5]}
    return {**_spec(), "search": about}


def test_it_stops_where_others_are_better(
    tmp_path: Path, spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = trial.run(Context(tmp_path / "run", spec))  # type: ignore[arg-type]
    assert result["stopped_after"] == result["steps"] == 5
    assert "val_accuracy" in result["metrics"] and "test_accuracy" not in result["metrics"]
    told = opened("one").trials[3].user_attrs[RUNGS]
    assert told == {"5": result["metrics"]["val_accuracy"]}
    assert "others were better, stops" in capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoints").exists(), "it could be trained longer"


@pytest.mark.parametrize("change", [{"eta": 4}, {"rungs": []}, {"study": "none"}, {"trial": 9}])
def test_it_goes_on_where_they_are_not_or_cannot_be_asked(
    tmp_path: Path, spec: dict[str, Any], change: dict[str, Any]
) -> None:
    spec["search"] |= change
    result = trial.run(Context(tmp_path / "run", spec))  # type: ignore[arg-type]
    assert result["steps"] == 10 and "stopped_after" not in result


def test_a_design_that_has_trained_is_timed(
    tmp_path: Path, spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["measured_step_ms", "measured_tokens_per_s", "measured_latency_ms"]
    spec["search"] |= {"rungs": [], "timed": names}
    spec["training"] |= {"precision": "bfloat16"}
    result = trial.run(Context(tmp_path / "run", spec))  # type: ignore[arg-type]
    times = result["times"]
    assert result["steps"] == 10 and all(times[name] > 0 for name in names)
    assert times["step"]["value"] == times["measured_step_ms"] and times["step"]["n"] >= 7
    tokens = spec["training"]["batch"] * times["positions"]
    assert times["measured_tokens_per_s"] == pytest.approx(1e3 * tokens / times["measured_step_ms"])
    assert times["quiet"] and times["threads"] == torch.get_num_threads()
    assert "measured_latency_ms" in capsys.readouterr().out
    gate = tmp_path / "home" / "cache" / "quiet-cpu.gate"
    assert gate.exists() and not trial_times.turns_for("cpu").wanted


def test_one_that_is_stopped_is_not_timed(tmp_path: Path, spec: dict[str, Any]) -> None:
    spec["search"] |= {"timed": ["measured_step_ms"]}
    result = trial.run(Context(tmp_path / "run", spec))  # type: ignore[arg-type]
    assert result["stopped_after"] == 5 and "times" not in result


def test_a_cancel_at_the_rung_is_a_cancel(tmp_path: Path, spec: dict[str, Any]) -> None:
    with pytest.raises(Stopped):
        trial.run(Context(tmp_path / "run", spec, stop_at=5))  # type: ignore[arg-type]


def test_a_record_without_a_trial_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="of which trial"):
        trial.run(Context(tmp_path / "run", _spec()))  # type: ignore[arg-type]
