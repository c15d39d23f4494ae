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
from hybridlab.runs.slots import core_count
from hybridlab.search.claims import ATTEMPTS, HOLDER
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.halving import PRICES
from hybridlab.search.leases import Leases, Worker
from hybridlab.search.places import opened
from hybridlab.search.study import REASON, close
from hybridlab.workflows.cluster import LOCAL
from hybridlab.workflows.search import begin_search, work_on
from tests.faults.machines import Machine, environment_of
from tests.faults.test_search_kills import FILE, finished

KILLS = int(os.environ.get("HYBRIDLAB_RAY_KILLS", "0"))
"""How many kills there are, of which the last and about every tenth are of the driver; ``make faults`` kills 50 times.

``make test`` leaves them out: Ray gives its own processes 30 seconds to start, which beside other tests may be too few.
"""
AT_ONCE = 3
"""As many workers may die together, of one more, so that somebody is left to go on with what they had begun."""
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

    def kill_workers(self, chance: random.Random, most: int) -> list[bool]:
        """Kill some that are at a trial; say of each whether its trial was indeed not told yet."""
        count = most if chance.random() < 0.7 else 1
        trials: list[FrozenTrial] = []

        def enough() -> bool:
            trials[:] = self.inside()
            return len(trials) >= count

        self.until(enough)
        trials = chance.sample(trials, count)
        known = self.leases.workers()
        time.sleep(chance.uniform(0, 0.2))
        doomed = [known[one.user_attrs[HOLDER]] for one in trials]
        for worker in doomed:
            os.kill(worker.pid, signal.SIGKILL)
        self.until(lambda: not any(processes.is_alive(one.pid, one.birth) for one in doomed))
        now = [self.study._storage.get_trial(one._trial_id) for one in trials]
        return [
            one.user_attrs[HOLDER] != worker.token or not one.state.is_finished()
            for one, worker in zip(now, doomed, strict=True)
        ]

    def kill_driver(self) -> bool:
        """Kill the driver; its tasks end with it, and so does a cluster of its own."""
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
class TestKills:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
        return tmp_path / "home"

    def test_workers_and_drivers(self, tmp_path: Path, home: Path, head: Machine) -> None:
        environment = environment_of(head.folder) | {"HYBRIDLAB_HOME": str(home)}
        search = Search(tmp_path, address="auto", environment=environment)
        try:
            run_through(search, max(KILLS - 2, 2), workers=AT_ONCE + 1)
        finally:
            search.close()
        assert head.alive

    def test_a_driver_with_a_cluster_of_its_own(self, tmp_path: Path) -> None:
        search = Search(tmp_path)
        try:
            run_through(search, 2, workers=min(2, core_count()))
        finally:
            search.close()


def run_through(search: Search, kills: int, workers: int) -> None:
    chance = random.Random(kills)
    known: dict[int, tuple[TrialState, list[float]]] = {}
    died = inside = drivers = 0
    while died < kills:
        if search.driver is None or search.driver.returncode is not None:
            search.begin(workers=workers)
            search.until(lambda: len(search.living()) == workers)
        until_driver = min(9 - died % 10, kills - 1 - died)
        if until_driver:
            wave = search.kill_workers(chance, min(max(1, workers - 1), until_driver))
            # Ray begins others in their places.
            search.until(lambda: len(search.living()) == workers)
        else:
            wave = [search.kill_driver()]
            drivers += 1
        died, inside = died + len(wave), inside + sum(wave)
        now = finished(search.study)
        assert known.items() <= now.items(), "no finished trial is lost or told anew"
        known = now

    trials = len(search.study.trials) + 3
    if kills > 2:
        search.begin(trials, workers)
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
        f"{died} kills, {drivers} of drivers, {inside} inside a trial; {trials} trials, "
        f"{len(over)} taken over"
    )
    assert inside >= 0.5 * died, "kills really fell inside trials"
    assert over, "what a dead worker had begun was gone on with under its number"
