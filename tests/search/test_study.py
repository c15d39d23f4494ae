"""Studies in files: gone on with, refused where they are of something else, readable after a cut, mended designs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hybridlab.errors import RunError, StoreError
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.front import front_of
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.samplers import make_sampler
from hybridlab.search.space import Codes
from hybridlab.search.study import (
    ABOUT,
    REASON,
    VERSION,
    design_of,
    open_storage,
    open_study,
    search,
)

FORM = ClosedForm(blocks=2, widths=(64, 128), heads=(2, 4))


def opened(place: Path | str, landscape: ClosedFormLandscape | None = None) -> optuna.Study:
    landscape = landscape or ClosedFormLandscape(FORM)
    sampler = make_sampler("random", landscape, seed=1)
    return open_study(landscape, sampler, storage=open_storage(place), name="one")


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_is_gone_on_with(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "folder" / "one.journal"
    where: Path | str = place if kind == "journal" else f"sqlite:///{tmp_path}/one.sqlite"
    landscape = ClosedFormLandscape(FORM)
    search(opened(where), landscape, 4)
    study = opened(where)
    told: list[int] = []
    search(study, landscape, 7, on_trial=lambda done, trial: told.append(done))
    assert told == [5, 6, 7]
    assert front_of(study, landscape).trials == 7
    told = dict(study.user_attrs[ABOUT])
    assert told.pop("version") == VERSION
    study.set_user_attr(ABOUT, told)  # as it was written before there were versions
    assert front_of(opened(where), landscape).trials == 7
    with pytest.raises(RunError, match="another space"):
        opened(where, ClosedFormLandscape(ClosedForm(blocks=3)))


def test_optuna_reads_the_journal_and_writes_on(tmp_path: Path) -> None:
    place = tmp_path / "one.journal"
    landscape = ClosedFormLandscape(FORM)
    search(opened(place), landscape, 3)
    theirs = optuna.load_study(
        study_name="one", storage=JournalStorage(JournalFileBackend(str(place)))
    )
    assert [trial.state for trial in theirs.trials] == [TrialState.COMPLETE] * 3
    assert theirs.metric_names == ["quality", "peak_bytes"]
    trial = theirs.ask(dict(landscape.space.distributions()))
    theirs.tell(trial, (0.5, 1.0))
    assert front_of(opened(place), landscape).trials == 4


def test_half_a_record_does_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "one.journal"
    landscape = ClosedFormLandscape(FORM)
    search(opened(place), landscape, 3)
    with place.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "gone", "tri')
    study = opened(place)
    search(study, landscape, 5)
    again = JournalStorage(JournalFileBackend(str(place)))
    states = [trial.state for trial in optuna.load_study(study_name="one", storage=again).trials]
    assert states == [TrialState.COMPLETE] * 5


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "one.journal", "nonsense://x"):
        with pytest.raises(StoreError, match="cannot be opened"):
            open_storage(place)


def test_a_database_without_its_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match="cannot be opened") as told:
        open_storage("postgresql://user:secret@host/database")
    (problem,) = told.value.problems
    assert problem.fix == "pip install 'hybridlab[postgres]'" and "secret" not in problem.path


class Crooked(ClosedFormLandscape):
    """Recomputing the first block cannot be built; wide designs go wrong, four heads have no number."""

    def repaired(self, codes_NP: Codes) -> Codes:
        rows = codes_NP.copy()
        rows[:, 4] = 0
        return rows

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        if row_P[0] == 1:
            return Outcome(reason="out of memory")
        if row_P[1] == 1:
            return Outcome((float("nan"), 1.0))
        return super().measure(row_P, seed)


def test_designs_are_mended_and_failures_kept_with_their_reason() -> None:
    landscape = Crooked(FORM)
    study = open_study(landscape, make_sampler("random", landscape, seed=0))
    search(study, landscape, 30)
    reasons = {trial.user_attrs.get(REASON) for trial in study.trials}
    assert reasons == {None, "out of memory", "a value is not finite"}
    asked = {trial.params["memory_1"] for trial in study.trials}
    ran = {design_of(trial)["memory_1"] for trial in study.trials}
    assert asked == {"keep", "recompute"} and ran == {"keep"}
    front = front_of(study, landscape)
    assert front.failed > 5 and front.points
    for point in front.points:
        row = landscape.space.codes([point.design])[0]
        np.testing.assert_allclose(landscape.form.evaluate(row[None])[0], point.values)


def test_budgets_are_answered_from_the_front() -> None:
    landscape = ClosedFormLandscape(FORM)
    study = open_study(landscape, make_sampler("cost_aware", landscape))
    search(study, landscape, 40)
    front = front_of(study, landscape)
    values = np.array([point.values for point in front.points])
    middle = float(np.median(values[:, 1]))
    best = front.best_within("quality", {"peak_bytes": middle})
    assert best.values[0] == values[values[:, 1] <= middle, 0].max()
    with pytest.raises(RunError, match="the nearest"):
        front.best_within("quality", {"peak_bytes": 1.0})
    with pytest.raises(RunError, match="no objective"):
        front.best_within("speed", {})
    assert front.knee() in front.points
