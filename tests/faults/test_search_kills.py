"""Kill a study's driver and workers at random moments: no finished trial lost, none left running, none told twice."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hybridlab.search.claims import ATTEMPTS, HOLDER
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.leases import Leases
from hybridlab.search.places import opened
from hybridlab.search.study import REASON, close
from tests.faults.search_zygote import IN_TRIAL, STUDY, TOOK_S
from tests.search.backends import BACKENDS, backend

KILLS = int(os.environ.get("HYBRIDLAB_SEARCH_KILLS", "3"))
"""How many kills there are on each storage; ``make faults`` kills 50 times."""
ZYGOTE = Path(__file__).parent / "search_zygote.py"
SEATS = 3
FOREVER = 100_000
FILE = "name: killed\nclosed_form: {blocks: 4}\n"


class Crew:
    """A driver and workers, forked from one warm process."""

    def __init__(self, folder: Path) -> None:
        marks, file = folder / "marks", folder / "killed.yaml"
        marks.write_bytes(bytes(SEATS * IN_TRIAL))
        file.write_text(FILE)
        with marks.open("r+b") as opened_marks:
            self._marks = mmap.mmap(opened_marks.fileno(), 0)
        self.log = folder / "log.txt"
        self.log.touch()
        self._zygote = subprocess.Popen(
            [sys.executable, str(ZYGOTE), str(marks), str(file), str(self.log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._zygote.stdout.readline().strip() == "ready"
        self.pids: dict[int, int] = {}
        self.place = ""

    def begin(self, seat: int, trials: int = FOREVER) -> None:
        self.pids[seat] = self._answer(f"begin {seat} {trials} {self.place}")

    def kill(self, seat: int) -> bool:
        """Kill a seat's process and say whether it died inside a trial."""
        pid = self.pids.pop(seat)
        os.kill(pid, signal.SIGKILL)
        status = self._answer(f"end {pid}")
        assert os.WIFSIGNALED(status), self.log.read_text()[-2000:]
        return bool(self.in_trial(seat))

    def end(self, seat: int) -> int:
        return self._answer(f"end {self.pids.pop(seat)}")

    def in_trial(self, seat: int) -> int:
        return struct.unpack_from("q", self._marks, seat * IN_TRIAL)[0]

    def _answer(self, line: str) -> int:
        self._zygote.stdin.write(line + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())

    def clear(self) -> None:
        for seat in list(self.pids):
            self.kill(seat)

    def close(self) -> None:
        self.clear()
        self._zygote.communicate(timeout=30)
        self._marks.close()


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def finished(study: optuna.Study) -> dict[int, tuple[TrialState, list[float]]]:
    return {one.number: (one.state, one.values) for one in study.trials if one.state.is_finished()}


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    made = Crew(tmp_path_factory.mktemp("crew"))
    yield made
    made.close()


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("search_kills")
@pytest.mark.parametrize("kind", BACKENDS)
def test_killed_at_random_moments(tmp_path, monkeypatch, crew, kind):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    with backend(kind, tmp_path) as storage:
        crew.place = f"{storage} {tmp_path / 'home'}"
        try:
            run_through(crew, storage, random.Random(f"{KILLS} {kind}"))
        finally:
            crew.clear()


def run_through(crew: Crew, storage: str, chance: random.Random) -> None:
    crew.begin(0)
    until(lambda: crew.in_trial(0))
    for seat in range(1, SEATS):
        crew.begin(seat)
    known: dict[int, tuple[TrialState, list[float]]] = {}
    died = inside = drivers = 0
    study = opened(STUDY)
    while died < KILLS or (inside < 0.5 * KILLS and died < 3 * KILLS):
        seat = chance.randrange(SEATS)
        if chance.random() < 0.8:  # in a trial; else anywhere, beginning and asking too
            until(lambda seat=seat: crew.in_trial(seat))
        time.sleep(chance.uniform(0, TOOK_S / 2))
        inside += crew.kill(seat)
        died, drivers = died + 1, drivers + (seat == 0)
        now = finished(study)
        assert known.items() <= now.items(), "no finished trial is lost or told anew"
        known = now
        crew.begin(seat)
    for seat in range(SEATS):
        inside += crew.kill(seat)
        died += 1

    trials = len(study.trials) + 4
    crew.begin(0, trials)
    assert crew.end(0) == 0, crew.log.read_text()[-2000:]

    every = study.trials
    assert [one.number for one in every] == list(range(trials)), "none is made twice"
    assert {one.state for one in every} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert known.items() <= finished(study).items()
    form = ClosedForm(blocks=4)
    for one in every:
        if one.state is TrialState.FAIL:
            assert "workers died over it" in one.user_attrs[REASON]
        else:
            told = form.evaluate(form.space.codes([one.params]))[0]
            np.testing.assert_allclose(told, one.values)
            assert one.user_attrs[HOLDER]
    leases = Leases(storage, STUDY)
    try:
        assert len(leases.workers()) <= died, "who left is not there"
    finally:
        leases.leave()
    over = [one.number for one in every if ATTEMPTS in one.user_attrs]
    close(study)
    if storage.endswith(".journal"):
        told_twice(Path(storage), trials)
    print(
        f"{died} kills, {drivers} of drivers, {inside} inside a trial; {trials} trials, "
        f"{len(over)} taken over"
    )
    assert inside >= 0.5 * KILLS, "kills really fell inside trials"
    assert over, "what a dead worker had begun was gone on with under its number"


def told_twice(journal: Path, trials: int) -> None:
    """Look at the journal itself: every trial was made once and ended once."""
    import json

    made, ended = 0, []
    for line in journal.read_text().splitlines():
        record = json.loads(line)
        made += record["op_code"] == 4
        if record["op_code"] == 6 and record["state"] in (1, 3):
            ended.append(record["trial_id"])
    assert made == trials
    assert sorted(ended) == list(range(trials))
