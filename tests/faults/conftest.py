"""Every test of this folder has a home of its own and a warm process that forks its workers, or a cluster of Ray's."""

from collections.abc import Iterator

import pytest

from tests.faults.machines import Machine, room_for_machines
from tests.faults.trainings import Trainings


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    made = Trainings(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def head() -> Iterator[Machine]:
    """A cluster that runs, of one machine; others may join it, and tests leave it as it was."""
    with room_for_machines() as folder:
        made = Machine(folder, 1, cores=4)
        yield made
        made.kill()
