"""Trials held by workers: each by one, gone on with when it dies, told once, and no more than were asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hybridlab.errors import StoreError
from hybridlab.search import leases as leases_module
from hybridlab.search.claims import ATTEMPTS, HOLDER, MOST_ATTEMPTS, end, give_back, take, tally
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.drive import Here, drive
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.leases import Leases, Worker
from hybridlab.search.samplers import make_sampler
from hybridlab.search.study import REASON, close, open_storage, open_study
from tests.search.backends import BACKENDS, backend

LANDSCAPE = ClosedFormLandscape(ClosedForm(blocks=2, widths=(64, 128), heads=(2, 4)))


JOURNAL = pytest.mark.parametrize("place", ["journal"], indirect=True)


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with backend(request.param, tmp_path) as made:
        yield made


class Worked:
    """Several workers of one study, each with a connection of its own."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.made: list[tuple[optuna.Study, Leases]] = []

    def one(self, seed: int = 0, **more: float) -> tuple[optuna.Study, Leases]:
        sampler = make_sampler("random", LANDSCAPE, seed=seed)
        study = open_study(LANDSCAPE, sampler, storage=open_storage(self.place), name="s")
        leases = Leases(self.place, "s", **more)
        leases.beat()
        self.made.append((study, leases))
        return study, leases


@pytest.fixture
def worked(place: str) -> Iterator[Worked]:
    made = Worked(place)
    yield made
    for study, leases in made.made:
        leases.leave()
        close(study)


def dead() -> Worker:
    """A worker of this machine whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return Worker("gone", leases_module.machine(), "here", child.pid, "born", 1)


def enter(leases: Leases, worker: Worker) -> None:
    with leases._writing() as connection:
        connection.execute(leases_module._workers.insert().values(study="s", **vars(worker)))


def test_each_trial_has_one_holder_and_is_told_once(worked: Worked) -> None:
    one, other = worked.one(1), worked.one(2)
    first = take(one[0], LANDSCAPE, one[1], 3)
    second = take(other[0], LANDSCAPE, other[1], 3)
    third = take(one[0], LANDSCAPE, one[1], 3, {first.number})
    assert [first.number, second.number, third.number] == [0, 1, 2]
    assert take(other[0], LANDSCAPE, other[1], 3, {1}) is None, "three were asked for"
    assert set(first.params) == {choice.name for choice in LANDSCAPE.space.choices}
    assert end(other[0], LANDSCAPE, other[1], first, Outcome((0.5, 1.0))) is None, "not its own"
    assert end(one[0], LANDSCAPE, one[1], first, Outcome((0.5, 1.0))).values == [0.5, 1.0]
    assert end(one[0], LANDSCAPE, one[1], first, Outcome((0.9, 9.0))) is None, "told before"
    assert one[0].trials[0].values == [0.5, 1.0]
    again = take(one[0], LANDSCAPE, one[1], 3)
    assert again.number == 2 and again.params == third.params, "its own that it does not run"


def test_what_a_dead_worker_began_goes_on_under_its_number(worked: Worked) -> None:
    study, leases = worked.one()
    enter(leases, dead())
    trial = take(study, LANDSCAPE, leases, 5)
    trial.set_user_attr(HOLDER, "gone")
    taken = take(study, LANDSCAPE, leases, 1)
    assert taken.number == 0 and taken.params == trial.params
    assert study.trials[0].user_attrs[HOLDER] == leases.token
    assert study.trials[0].user_attrs[ATTEMPTS] == 2


@JOURNAL
def test_a_worker_that_died_before_it_chose_is_no_loss(worked: Worked) -> None:
    study, leases = worked.one()
    enter(leases, dead())
    template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={HOLDER: "gone"})
    study._storage.create_new_trial(study._study_id, template)
    taken = take(study, LANDSCAPE, leases, 1)
    assert taken.number == 0 and len(taken.params) == len(LANDSCAPE.space.choices)


@JOURNAL
def test_a_trial_that_outlives_many_workers_ends_with_its_reason(worked: Worked) -> None:
    study, leases = worked.one()
    enter(leases, dead())
    trial = take(study, LANDSCAPE, leases, 2)
    trial.set_user_attr(HOLDER, "gone")
    trial.set_user_attr(ATTEMPTS, MOST_ATTEMPTS)
    assert take(study, LANDSCAPE, leases, 1) is None
    assert study.trials[0].state is TrialState.FAIL
    assert "workers died over it" in study.trials[0].user_attrs[REASON]


@JOURNAL
def test_what_is_given_back_is_taken_without_blame(worked: Worked) -> None:
    one, other = worked.one(1), worked.one(2)
    trial = take(one[0], LANDSCAPE, one[1], 1)
    assert take(other[0], LANDSCAPE, other[1], 1) is None, "its holder lives"
    give_back(one[0], one[1], trial)
    assert take(other[0], LANDSCAPE, other[1], 1).number == 0
    assert ATTEMPTS not in other[0].trials[0].user_attrs


@JOURNAL
def test_optunas_own_trials_are_left_alone_and_its_queue_is_served(worked: Worked) -> None:
    study, leases = worked.one()
    study.ask()
    wanted = {choice.name: choice.values[-1] for choice in LANDSCAPE.space.choices}
    study.enqueue_trial(wanted)
    taken = take(study, LANDSCAPE, leases, 2)
    assert taken.number == 1 and taken.params == wanted
    assert take(study, LANDSCAPE, leases, 2, {1}) is None
    assert tally(study).running == 2 and tally(study).waiting == 0
    end(study, LANDSCAPE, leases, taken, Outcome((0.5, 1.0)))
    drive(study, LANDSCAPE, leases, 2, Here(LANDSCAPE))
    assert study.trials[0].state is TrialState.RUNNING, "nobody waits for what is not ours"


def test_another_machines_worker_is_gone_when_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(leases_module.time, "monotonic", lambda: clock[0])
    leases = Leases(tmp_path / "study.journal", "s", silent_seconds=10)
    far = Worker("far", "another machine", "far", 1, "then", 7)
    enter(leases, far)

    def look(seconds: float) -> set[str]:
        clock[0] += seconds
        return leases.lapsed({"far", leases.token})

    assert look(0) == set()
    for _ in range(4):
        assert look(2) == set()
    with leases._writing() as connection:
        connection.execute(leases_module._workers.update().values(beat=8))
    assert look(2) == set(), "it has beaten"
    assert look(3_600) == set(), "nobody looked for an hour, which blames nobody"
    for _ in range(3):
        assert look(2) == set()
    assert look(2) == {"far"}
    leases.leave()


def test_one_has_the_turn_and_a_beat_writes_a_lost_row_anew(worked: Worked) -> None:
    (_, one), (_, other) = worked.one(), worked.one()
    order: list[str] = []
    entered = threading.Event()

    def waits() -> None:
        entered.wait()
        with other.turn():
            order.append("second")

    thread = threading.Thread(target=waits)
    thread.start()
    with one.turn():
        entered.set()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with one._writing() as connection:
        connection.execute(leases_module._workers.delete())
    one.beat()
    assert set(one.workers()) == {one.token}


def test_a_storage_that_goes_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "here", tmp_path / "away"
    worked = Worked(str(folder / "study.journal"))
    study, leases = worked.one()
    told: list[str] = []

    def gone(why: str) -> None:
        told.append(why)
        threading.Timer(0.3, lambda: away.rename(folder)).start()

    class Moves(Here):
        def begin(self, trial: optuna.Trial, row_P: object) -> None:
            super().begin(trial, row_P)
            if trial.number in (3, 6):
                folder.rename(away)

    drive(study, LANDSCAPE, leases, 12, Moves(LANDSCAPE), on_away=gone)
    assert len(told) == 2
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    folder.rename(away)
    with pytest.raises(StoreError, match=r"was away for 0\.1 s"):
        drive(study, LANDSCAPE, leases, 13, Here(LANDSCAPE), patience_s=0.1)
    away.rename(folder)
    leases.leave()


def test_memory_that_runs_out_becomes_the_reason() -> None:
    class Large(ClosedFormLandscape):
        def measure(self, row_P: object, seed: int) -> Outcome:
            raise MemoryError("no room")

    large = Large(LANDSCAPE.form)
    here = Here(large)
    study = open_study(large, make_sampler("random", large))
    trial = study.ask(dict(large.space.distributions()))
    here.begin(trial, large.space.codes([trial.params])[0])
    assert "not enough memory" in here.ended()[0].reason
    assert here.room == 0
    here.clear(0)
    assert here.room == 1


def test_two_workers_make_what_was_asked_for_between_them(
    worked: Worked, tmp_path: Path, drives: Callable[..., list[BaseException]]
) -> None:
    errors = drives(worked, 2, 14)
    assert errors == []
    study = worked.made[0][0]
    assert [one.number for one in study.trials] == list(range(14))
    assert {one.state for one in study.trials} == {TrialState.COMPLETE}


@pytest.fixture
def drives() -> Callable[..., list[BaseException]]:
    """Return a function that drives a study with several workers at once, each in a thread with its own connections."""

    def run(worked: Worked, workers: int, trials: int) -> list[BaseException]:
        errors: list[BaseException] = []
        pairs = [worked.one(seed) for seed in range(workers)]

        def work(study: optuna.Study, leases: Leases) -> None:
            try:
                drive(study, LANDSCAPE, leases, trials, Here(LANDSCAPE))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    return run
