"""A cluster that runs already, of one machine and of two: who is let in, where workers go, and a machine lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from hybridlab.runs.home import HOME_VARIABLE
from hybridlab.search.claims import ATTEMPTS, HOLDER
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.places import opened
from hybridlab.search.study import close
from hybridlab.workflows.search import begin_search, work_on
from tests.faults.machines import Machine, environment_of
from tests.faults.resting import RESTS_VARIABLE
from tests.faults.test_ray_kills import KILLS, STUDY, Search
from tests.faults.test_search_kills import FILE, finished
from tests.search.backends import backend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="one computer has many addresses on Linux"),
    pytest.mark.skipif(not KILLS, reason="Ray runs by make faults: HYBRIDLAB_RAY_KILLS is 0"),
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("ray"),
]


@pytest.fixture(scope="module")
def slow(head: Machine) -> Iterator[Machine]:
    """Another machine, with one core, whose trials never end."""
    made = Machine(
        head.folder.parent, 2, cores=1, head=head.address, environment={RESTS_VARIABLE: "86400"}
    )
    yield made
    made.kill()


def searched(head: Machine, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb as somebody would who sits at the head."""
    return subprocess.run(
        [sys.executable, "-c", "from hybridlab.cli import main; main()", "search", *arguments],
        env=environment_of(head.folder) | {HOME_VARIABLE: str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_auto_finds_the_cluster_that_runs(head: Machine, tmp_path: Path) -> None:
    file, home = tmp_path / "small.yaml", tmp_path / "home"
    file.write_text(FILE)
    arguments = ("--ray", "auto", "--trials", "30", "--study", "one", "--workers", "2", "--json")
    done = searched(head, home, str(file), *arguments)
    assert done.returncode == 0, done.stderr
    assert "ray: 2 workers of 2 cores on this machine" in done.stderr
    assert "30 of 30 trials" in done.stderr
    front = json.loads(done.stdout.splitlines()[-1])
    study = opened("one", home / "searches" / "one.journal")
    assert [one.state for one in study.trials] == [TrialState.COMPLETE] * 30
    form = ClosedForm(blocks=4)
    for point in front["front"]:
        trial = study.trials[point["trial"]]
        assert form.evaluate(form.space.codes([trial.params]))[0].tolist() == point["values"]
    close(study)
    assert head.alive, "a cluster that ran before is left as it was"


def test_a_file_is_refused_on_two_machines(head: Machine, slow: Machine, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(FILE)
    said = searched(head, tmp_path / "home", str(file), "--ray", "auto", "--json")
    assert said.returncode == 2, said.stderr
    (error,) = json.loads(said.stdout.splitlines()[-1])["errors"]
    assert error["message"] == "the cluster has 2 machines, and a file is reached by one"
    assert "postgresql://" in error["fix"]


def test_a_machine_that_is_lost_loses_nothing(
    head: Machine, slow: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    environment = environment_of(head.folder) | {HOME_VARIABLE: str(tmp_path / "home")}
    with backend("postgresql", tmp_path) as place:
        search = Search(tmp_path, place, "auto", environment)
        try:
            run_through(search, head, slow)
        finally:
            search.close()


def run_through(search: Search, head: Machine, slow: Machine) -> None:
    def on(machine: Machine) -> set[str]:
        return {token for token, one in search.living().items() if machine.has(one.pid)}

    def at(tokens: set[str]) -> list[int]:
        return [one.number for one in search.inside() if one.user_attrs[HOLDER] in tokens]

    search.begin(workers=3)
    search.until(lambda: len(on(head)) == 2 and len(at(on(slow))) == 1)
    assert "ray: 3 workers of 1 core on 2 machines" in search.log.read_text()
    for machine in (head, slow):
        assert (machine.home / "searches" / f"{STUDY}.url").exists(), "each has a home of its own"
    dead, (number,) = on(slow), at(on(slow))
    known = finished(search.study)
    slow.kill()

    search.until(lambda: number in finished(search.study))  # which it never would have there
    search.until(lambda: len(on(head)) == 3)  # Ray begins the lost worker where there is room
    assert known.items() <= finished(search.study).items()
    search.driver.terminate()
    assert search.driver.wait(300) == 0, search.log.read_text()[-3000:]
    assert head.alive and not search.living()

    trials = len(search.study.trials) + 3
    begin_search(search.file, study=STUDY, storage=search.place, trials=trials)
    work_on(STUDY)
    every = search.study.trials
    assert [one.number for one in every] == list(range(trials)), "none is made twice"
    assert {one.state for one in every} == {TrialState.COMPLETE}, "none is lost or left running"
    assert [one.number for one in every if ATTEMPTS in one.user_attrs] == [number]
    assert every[number].user_attrs[HOLDER] not in dead
    form = ClosedForm(blocks=4)
    for one in every:
        assert form.evaluate(form.space.codes([one.params]))[0].tolist() == one.values
