"""A study as it is read: rows, states, front and growth, and nothing read twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hybridlab.search.claims import HOLDER, take
from hybridlab.search.halving import PRICES, RUNGS
from hybridlab.search.leases import Leases
from hybridlab.search.opening import landscape_of
from hybridlab.search.pareto import hypervolume
from hybridlab.search.places import opened, place_of
from hybridlab.search.record import StudyReader
from hybridlab.search.spec import search_of
from hybridlab.search.study import REASON
from hybridlab.workflows.search import front_of_study, run_search

FILE = """
name: small
closed_form: {blocks: 2, widths: [64, 128], heads: [2, 4]}
sampler: random
trials: 25
limits: {peak_bytes: 4 MiB}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    spec = search_of(FILE)
    values = landscape_of(spec.model_copy(update={"limits": {}})).form.front[:, 1]
    limit = float(np.median(values))
    run_search(spec.model_copy(update={"limits": {"peak_bytes": limit}}), study="one")
    return opened("one")


@pytest.fixture
def reader(study: optuna.Study) -> Iterator[StudyReader]:
    made = StudyReader("one")
    yield made
    made.close()


def test_the_record_says_what_the_study_holds(study: optuna.Study, reader: StudyReader) -> None:
    record = reader.read()
    front = front_of_study("one")
    assert record.front() == [point.trial for point in front.points] and front.points
    assert (record.name, record.asked, len(record.trials)) == ("one", 25, 25)
    assert [choice["name"] for choice in record.about.choices][:2] == ["width", "heads"]
    assert sum(row.state == "beyond" for row in record.trials) == front.infeasible > 0
    for row, trial in zip(record.trials, study.trials, strict=True):
        assert row.design == trial.params and list(row.values) == trial.values
        assert row.started <= row.ended
    numbers, values = record.numbers()
    at, volumes = record.hypervolumes()
    assert volumes == sorted(volumes) and len(at) == len(volumes) >= len(front.points)
    small = values * record.signs
    assert volumes[-1] == pytest.approx(hypervolume(small, small.max(axis=0)))
    half = [list(numbers).index(number) for number in numbers if number <= at[-2]]
    assert volumes[-2] == pytest.approx(hypervolume(small[half], small.max(axis=0)))


def test_states_that_are_not_the_end(study: optuna.Study, reader: StudyReader) -> None:
    before = reader.read()
    landscape = landscape_of(search_of(FILE).model_copy(update={"limits": {}}))
    leases = Leases(place_of("one"), "one")
    leases.join()
    mine = take(study, landscape, leases, 26)
    mine.set_user_attr(PRICES, [None, 5.0])
    lost = take(study, landscape, leases, 27, {mine.number})
    lost.set_user_attr(HOLDER, "")
    study.enqueue_trial({})
    for state in (TrialState.PRUNED, TrialState.FAIL):
        other = study.ask(dict(landscape.space.distributions()))
        if state is TrialState.PRUNED:
            other.set_user_attr(RUNGS, {"13": 0.5})
        other.set_user_attr(REASON, "why")
        study.tell(other, state=state)
    theirs = study.ask()
    record = reader.read()
    assert record.trials[:25] == before.trials
    assert all(a is b for a, b in zip(record.trials[:25], before.trials, strict=False))
    states = [row.state for row in record.trials[25:]]
    assert sorted(states) == sorted(["running", "lost", "stopped", "failed", "running"])
    row = record.trials[mine.number]
    assert row.values == (None, 5.0) and row.worker == leases.token and row.worker in record.living
    assert record.trials[theirs.number].state == "running", "Optuna's own"
    stopped = next(row for row in record.trials if row.state == "stopped")
    assert stopped.rungs == {13: 0.5} and stopped.reason == "why"
    leases.leave()
    assert reader.read().living == frozenset()
