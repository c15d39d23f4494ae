"""What a trial writes into a database: few transactions, the same as Optuna writes, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from hybridlab.search.claims import end, take
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.database import Database, together
from hybridlab.search.drive import Here, drive
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.leases import Leases, driver_url
from hybridlab.search.samplers import make_sampler
from hybridlab.search.study import close, open_storage, open_study
from tests.search.backends import backend

LIMITED = ClosedFormLandscape(ClosedForm(blocks=12), limits={"peak_bytes": 1e12})
MOST_COMMITS = 4
"""Of a trial: made, asked, priced, ended."""


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with backend(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def study(place: str) -> Iterator[optuna.Study]:
    made = opened(place, open_storage(place))
    yield made
    close(made)


def opened(place: str, storage: RDBStorage, sampler: str = "random", name: str = "s"):
    made = make_sampler(sampler, LIMITED, seed=3)
    return open_study(LIMITED, made, storage=storage, name=name)


def engine_of(study: optuna.Study) -> sa.Engine:
    return study._storage._backend.engine


def counted(study: optuna.Study, statement: str = "") -> list[object]:
    """Note every transaction that wrote, by what it wrote."""
    written: list[str] = []
    commits: list[object] = []

    def heard(_connection, _cursor, text, *_more):
        if text.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            written.append(text)

    def committed(_connection):
        if written:
            commits.append(tuple(written))
            written.clear()

    sa.event.listen(engine_of(study), "before_cursor_execute", heard)
    sa.event.listen(engine_of(study), "commit", committed)
    return commits


def test_a_trial_takes_few_transactions(place: str, study: optuna.Study) -> None:
    leases = Leases(place, "s")
    leases.beat()
    drive(study, LIMITED, leases, 1, Here(LIMITED))  # a process's first asks what others wrote
    commits = counted(study)
    drive(study, LIMITED, leases, 4, Here(LIMITED))
    leases.leave()
    assert [len(one.params) for one in study.trials] == [len(LIMITED.space.choices)] * 4
    assert len(LIMITED.space.choices) > 20, "which Optuna writes in as many transactions"
    assert 0 < len(commits) <= 3 * MOST_COMMITS
    assert max(len(one) for one in commits) <= 8, "and in few statements"


def told(trial: FrozenTrial) -> tuple[object, ...]:
    attributes = {key: value for key, value in trial.user_attrs.items() if key != "worker"}
    kept = (trial.number, trial.state, trial.values, trial.params, trial.distributions)
    return *kept, attributes, trial.system_attrs, trial.constraints


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_it_writes_what_optuna_writes(tmp_path: Path, sampler: str) -> None:
    found = []
    for kind in (Database, RDBStorage):
        place = f"sqlite:///{tmp_path / kind.__name__}.sqlite"
        study = opened(place, kind(place), sampler)
        leases = Leases(place, "s")
        drive(study, LIMITED, leases, 8, Here(LIMITED))
        leases.leave()
        found.append([told(one) for one in study.trials])
        again = RDBStorage(place)
        theirs = optuna.load_study(study_name="s", storage=again)
        assert [told(one) for one in theirs.trials] == found[-1], "Optuna itself reads it"
        assert all(one.datetime_complete >= one.datetime_start for one in theirs.trials)
        close(study)
        close(theirs)
    assert found[0] == found[1]


def test_a_block_that_fails_has_written_nothing(place: str, study: optuna.Study) -> None:
    trial = study.ask()
    with pytest.raises(RuntimeError, match="sampler"), together(study):
        trial.suggest_categorical("a", (1, 2))
        trial.set_user_attr("b", 3)
        raise RuntimeError("the sampler went wrong")
    trial.set_user_attr("c", 4)
    other = optuna.load_study(study_name="s", storage=RDBStorage(driver_url(place)))
    (kept,) = other.trials
    assert (kept.params, kept.user_attrs) == ({}, {"c": 4})
    close(other)


def test_what_is_held_back_is_seen_inside_and_by_nobody_else(
    place: str, study: optuna.Study
) -> None:
    other = optuna.load_study(study_name="s", storage=RDBStorage(driver_url(place)))
    trial = study.ask()
    with together(study):
        value = trial.suggest_categorical("a", (1, 2))
        trial.set_user_attr("b", 3)
        for seen in (study.get_trials(deepcopy=False)[0], study._storage.get_trial(1)):
            assert seen.params == {"a": value} and seen.user_attrs == {"b": 3}
        assert other.trials[0].params == {} and not other.trials[0].user_attrs
    assert other.trials[0].params == {"a": value} and other.trials[0].user_attrs == {"b": 3}
    trial.set_user_attr("b", 5)
    with together(study):
        trial.set_user_attr("b", 6)
        study.tell(trial, (0.5, 2.0))
        assert other.trials[0].values == [0.5, 2.0], "an end is written as it is told"
    assert other.trials[0].user_attrs == {"b": 6}
    close(other)


def test_parameters_are_held_against_those_of_others(place: str, study: optuna.Study) -> None:
    study.ask({"a": CategoricalDistribution((1, 2))})
    fresh = opened(place, open_storage(place))  # has not seen what the other wrote
    for asking in (fresh, study):
        with pytest.raises(ValueError, match="dynamic value space"), together(asking):
            asking.ask().suggest_categorical("a", (1, 2, 3))
    close(fresh)


def test_a_trial_that_has_ended_is_left_as_it_is(place: str, study: optuna.Study) -> None:
    trial = study.ask()
    with pytest.raises(UpdateFinishedTrialError), together(study):
        trial.set_user_attr("late", 1)
        other = optuna.load_study(study_name="s", storage=RDBStorage(driver_url(place)))
        other.tell(0, state=TrialState.FAIL)
        close(other)
    assert study.trials[0].user_attrs == {}


def test_a_told_trial_keeps_its_constraints_and_its_reason(place: str, study: optuna.Study) -> None:
    leases = Leases(place, "s")
    leases.beat()
    over = take(study, LIMITED, leases, 2)
    assert end(study, LIMITED, leases, over, Outcome((0.5, 2e12))).constraints == {
        "peak_bytes": 1e12
    }
    failed = take(study, LIMITED, leases, 2)
    assert end(study, LIMITED, leases, failed, Outcome(reason="no memory")).state is TrialState.FAIL
    assert study.trials[1].user_attrs["reason"] == "no memory"
    leases.leave()
