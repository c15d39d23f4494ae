"""A worker on another machine: a home of its own, and the storage alone shared with whoever began the search."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from hybridlab.architecture.document import loads
from hybridlab.cli import run
from hybridlab.runs import launcher
from hybridlab.runs.folder import read_log
from hybridlab.runs.home import HOME_VARIABLE, STORE_VARIABLE, home_id
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store
from hybridlab.search.places import opened
from hybridlab.search.study import close
from hybridlab.workflows import trial_runs
from hybridlab.workflows.search import begin_search
from tests.search.backends import POSTGRES_VARIABLE, backend

DESIGN = "name: small\nwidth: 8\nnodes:\n  - {id: mix, use: attention, heads: 2}\n  - {use: mlp}\n"
SEARCH = """
name: tiny
architecture: small.yaml
task: parity
training: {task_params: {length: 8, longer: 12}, steps: 9, batch: 4, warmup_steps: 1, device: cpu}
search:
  width: [8, 12]
objectives: [val_accuracy, peak_bytes]
halving: {eta: 3, rungs: 1}
sampler: grid
trials: 2
"""


def test_another_home_needs_the_storage_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    supervisor_ender: Callable[[Path], None],
) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    first, second = tmp_path / "first", tmp_path / "second"
    kind = "postgresql" if os.environ.get(POSTGRES_VARIABLE) else "sqlite"
    with backend(kind, tmp_path) as place:
        monkeypatch.setenv(HOME_VARIABLE, str(first))
        monkeypatch.chdir(tmp_path)
        Path("small.yaml").write_text(DESIGN)
        Path("tiny.yaml").write_text(SEARCH)
        begin_search("tiny.yaml", study="shared", storage=place)
        # What is left is the storage: no search file, no design, no home that knows the study.
        shutil.rmtree(first)
        Path("small.yaml").unlink()
        Path("tiny.yaml").unlink()

        monkeypatch.setenv(HOME_VARIABLE, str(second))
        arguments = ["worker", "--study", "shared", "--storage", place, "--workers", "2", "--json"]
        try:
            assert run(arguments) == 0
        finally:
            supervisor_ender(second)
            launcher._spawned.pop(second).wait(60)
        front = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (front["study"], front["trials"], front["failed"]) == ("shared", 2, 0)
        study = opened("shared")
        trials = study.trials
        close(study)

    runs = {one.id: one for one in open_store().list(kind="search")}
    assert len(runs) == 2 and not first.exists()
    for trial in trials:
        noted = trial.user_attrs[trial_runs.RUN]
        done = runs[noted["id"]]
        assert noted["home"] == done.home == home_id()
        design = loads(trial.user_attrs[trial_runs.ARCHITECTURE])
        assert design.width == trial.params["width"] and "heads: 2" in done.spec["architecture"]
        told = done.spec["training"]
        assert (told["steps"], told["batch"], told["task_params"]["length"]) == (9, 4, 8)
        assert done.state is RunState.DONE
        # It compared itself with the others by what the storage holds, and has a value from its own training.
        words = read_log(done.id).text
        assert "cannot be asked" not in words and "step 3: " in words
        if trial.state is TrialState.COMPLETE:
            assert trial.values[0] == done.result["metrics"]["val_accuracy"]
        else:
            assert trial.state is TrialState.PRUNED and done.result["stopped_after"] == 3
    assert TrialState.COMPLETE in {one.state for one in trials}
    assert sorted(one.params["width"] for one in trials) == [8, 12]
