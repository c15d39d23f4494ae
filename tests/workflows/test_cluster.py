"""Workers by Ray: what each may take, what is refused, and (in tests/faults/test_ray_*.py) real clusters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybridlab.cli import main
from hybridlab.errors import SpecError
from hybridlab.runs.home import HOME_VARIABLE
from hybridlab.runs.pool import child_environment
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.places import studies
from hybridlab.workflows import cluster
from hybridlab.workflows.cluster import Room, needs_of

FILE = "name: small\nclosed_form: {blocks: 3}\n"


@pytest.mark.parametrize(
    ("rooms", "workers", "gpu", "wanted"),
    [
        ([Room(8)], None, False, (8, 1)),
        ([Room(8)], 3, False, (3, 2)),
        ([Room(8)], 1, False, (1, 8)),
        ([Room(3), Room(3)], 3, False, (3, 1)),  # two of two cores would fit, not three
        ([Room(3), Room(3)], 2, False, (2, 3)),
        ([Room(4), Room(16, 2)], None, True, (2, 8)),
        ([Room(4, 4)], 2, True, (2, 2)),
        ([Room(2)], 9, False, (9, 1)),  # seven wait for room
    ],
)
def test_each_worker_gets_what_lets_all_run_at_once(
    rooms: list[Room], workers: int | None, gpu: bool, wanted: tuple[int, int]
) -> None:
    needs = needs_of(rooms, workers, gpu=gpu, memory_bytes=7)
    assert (needs.workers, needs.cpus) == wanted
    assert (needs.gpus, needs.memory_bytes) == (int(gpu), 7)


@pytest.mark.parametrize(("rooms", "gpu"), [([], False), ([Room(0)], False), ([Room(8)], True)])
def test_a_cluster_without_room_is_told(rooms: list[Room], gpu: bool) -> None:
    with pytest.raises(SpecError, match="no machine of the cluster has room"):
        needs_of(rooms, 2, gpu=gpu, memory_bytes=0)


def test_a_file_is_for_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    name = socket.gethostname()
    nodes = [
        {"NodeManagerHostname": host, "NodeManagerAddress": address}
        for host, address in ((name, "10.0.0.1"), (name, "10.0.0.1"), (name, "10.0.0.2"))
    ]
    here, alike = cluster._machines(nodes[:2]), cluster._machines(nodes)
    given = cluster._environment(here, "study.journal")
    assert given[HOME_VARIABLE] == str(tmp_path)
    assert str(Path(cluster.__file__).parents[2]) in given["PYTHONPATH"].split(os.pathsep)
    one_other, two = {("another", "10.0.0.2")}, {*here, ("another", "10.0.0.2")}
    for machines, words in (
        (two, "the cluster has 2 machines"),
        (alike, "the cluster has 2 machines"),
        (one_other, "the cluster is another machine"),
    ):
        assert cluster._environment(machines, "postgresql://u:secret@host/db") == {}
        for place in ("study.journal", "sqlite:///study.sqlite"):
            with pytest.raises(SpecError, match=words):
                cluster._environment(machines, place)


def test_a_place_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cluster._absolute("a.journal") == str(tmp_path / "a.journal")
    assert cluster._absolute("sqlite:///a.sqlite") == f"sqlite:///{tmp_path}/a.sqlite"
    for same in (None, "postgresql://u:secret@host/db", f"sqlite:///{tmp_path}/a.sqlite"):
        assert cluster._absolute(same) == same


def test_a_trial_that_trains_takes_a_gpu_where_there_is_one_or_the_memory_it_may() -> None:
    class Trained:
        def __init__(self, device: str) -> None:
            self.training, self.limits = SimpleNamespace(device=device), {"peak_bytes": 5.0}

    plain, with_gpu = [Room(4)], [Room(4), Room(4, 1)]
    assert cluster._of_a_training(Trained("auto"), plain) == (False, 5)
    assert cluster._of_a_training(Trained("auto"), with_gpu) == (True, 0)
    assert cluster._of_a_training(Trained("cpu"), with_gpu) == (False, 5)
    assert cluster._of_a_training(Trained("cuda:0"), plain) == (True, 0)
    assert cluster._of_a_training(ClosedFormLandscape(ClosedForm()), with_gpu) == (False, 0)


def test_a_worker_of_a_formula_does_without_torch() -> None:
    code = "import hybridlab.workflows.cluster, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), timeout=120)
    assert done.returncode == 0, "importing it took most of the time until a worker works"


def test_without_ray_one_sentence_says_so_and_no_study_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "ray", None)
    file = tmp_path / "small.yaml"
    file.write_text(FILE)
    monkeypatch.setattr(sys, "argv", ["hybridlab", "search", str(file), "--ray", "local"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "Ray is not installed" in said and "hybridlab[cluster]" in said
    assert studies() == []
