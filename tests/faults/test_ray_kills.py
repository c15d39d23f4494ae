"""Kill the workers that Ray runs, and the driver with its cluster: nothing lost, stuck, told twice or left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import optuna
import pytest
import ray  # noqa: F401  (not left out where it is missing: it belongs to the extra dev)
from optuna.trial import FrozenTrial, TrialState

from hybridlab.runs import processes
from hybridlab.runs.pool import child_environment
from hybridlab.search.claims import ATTEMPTS, HOLDER
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.halving import PRICES
from hybridlab.search.leases import Leases, Worker
from hybridlab.search.places import opened
from hybridlab.search.study import REASON, close
from hybridlab.workflows.cluster import LOCAL
from hybridlab.workflows.search import begin_search, work_on
from tests.faults.test_search_kills import FILE, finished

KILLS = int(os.environ.get("HYBRIDLAB_RAY_KILLS", "0"))
"""How many kills there are, of which the last and every fifth one are of the driver; ``make faults`` kills 50 times.

``make test`` leaves them out: Ray gives its own processes 30 seconds to start, which beside other tests may be too few.
"""
STUDY = "killed"
FOREVER = 100_000


class Search:
    """A driver, with a Ray cluster of its own where it is given no address, and its study as somebody else sees it."""

    def __init__(
        self,
        folder: Path,
        place: str = "",
        address: str = LOCAL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.file, self.log = folder / "killed.yaml", folder / "log.txt"
        self.file.write_text(FILE)
        self.place = place or f"sqlite:///{folder / 'study.sqlite'}"
        self._address, self._environment = address, environment
        begin_search(self.file, study=STUDY, storage=self.place)
        self.study: optuna.Study = opened(STUDY)
        self.leases = Leases(self.place, STUDY)
        self.driver: subprocess.Popen[bytes] | None = None

    def begin(self, trials: int = FOREVER, workers: int | None = None) -> None:
        arguments = [str(self.file), STUDY, self.place, str(trials), self._address]
        arguments += [] if workers is None else [str(workers)]
        with self.log.open("ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.resting", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment or child_environment(),
                cwd=Path(__file__).resolve().parents[2],
            )

    def until(self, condition: Callable[[], object], seconds: float = 600.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            alive = (
                self.driver is None or self.driver.returncode is not None or not self.driver.poll()
            )
            assert alive and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def living(self) -> dict[str, Worker]:
        known = self.leases.workers()
        return {key: one for key, one in known.items() if processes.is_alive(one.pid, one.birth)}

    def inside(self) -> list[FrozenTrial]:
        """Trials that a living worker is at: priced, and not told."""
        living = self.living()
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [
            one for one in running if PRICES in one.user_attrs and one.user_attrs[HOLDER] in living
        ]

    def kill_worker(self, chance: random.Random) -> bool:
        """Kill one that is at a trial; say whether the trial was indeed not told yet."""
        self.until(self.inside)
        trial = chance.choice(self.inside())
        token = trial.user_attrs[HOLDER]
        worker = self.leases.workers()[token]
        time.sleep(chance.uniform(0, 0.2))
        os.kill(worker.pid, signal.SIGKILL)
        self.until(lambda: not processes.is_alive(worker.pid, worker.birth))
        now = self.study._storage.get_trial(trial._trial_id)
        return now.user_attrs[HOLDER] != token or not now.state.is_finished()

    def kill_driver(self) -> bool:
        """Kill the driver; its cluster ends with it."""
        self.until(self.inside)
        self.driver.kill()
        self.driver.wait()
        self.until(lambda: not self.living())
        return any(one.state is TrialState.RUNNING for one in self.study.trials)

    def close(self) -> None:
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self.leases.leave()
        close(self.study)


@pytest.mark.slow
@pytest.mark.skipif(not KILLS, reason="kills on Ray run by make faults: HYBRIDLAB_RAY_KILLS is 0")
@pytest.mark.timeout(3000)
@pytest.mark.xdist_group("ray")
def test_workers_and_drivers_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    search = Search(tmp_path)
    try:
        run_through(search, random.Random(KILLS))
    finally:
        search.close()


def run_through(search: Search, chance: random.Random) -> None:
    search.begin()
    known: dict[int, tuple[TrialState, list[float]]] = {}
    inside = drivers = 0
    for kill in range(1, KILLS + 1):
        last = kill == KILLS
        if last or kill % 5 == 0:
            inside += search.kill_driver()
            drivers += 1
        else:
            before = set(search.leases.workers())
            inside += search.kill_worker(chance)
            # Ray begins another worker in its place.
            search.until(lambda before=before: set(search.living()) - before)
        now = finished(search.study)
        assert known.items() <= now.items(), "no finished trial is lost or told anew"
        known = now
        if search.driver.poll() is not None and not last:
            search.begin()

    trials = len(search.study.trials) + 3
    if KILLS > 2:
        search.begin(trials)
        assert search.driver.wait(300) == 0, search.log.read_text()[-3000:]
    else:
        begin_search(search.file, study=STUDY, storage=search.place, trials=trials)
        work_on(STUDY)
    assert not search.living(), "no worker is left behind"

    every = search.study.trials
    assert [one.number for one in every] == list(range(trials)), "none is made twice"
    assert {one.state for one in every} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert known.items() <= finished(search.study).items()
    form = ClosedForm(blocks=4)
    for one in every:
        if one.state is TrialState.FAIL:
            assert "workers died over it" in one.user_attrs[REASON]
        else:
            told = form.evaluate(form.space.codes([one.params]))[0]
            np.testing.assert_allclose(told, one.values)
    over = [one.number for one in every if ATTEMPTS in one.user_attrs]
    print(
        f"{KILLS} kills, {drivers} of drivers, {inside} inside a trial; {trials} trials, "
        f"{len(over)} taken over"
    )
    assert inside >= 0.5 * KILLS, "kills really fell inside trials"
    assert over, "what a dead worker had begun was gone on with under its number"
