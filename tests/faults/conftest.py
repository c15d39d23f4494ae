"""Every test of this folder has a home of its own and a warm process that forks its workers."""

import pytest

from tests.faults.trainings import Trainings


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    made = Trainings(tmp_path)
    yield made
    made.close()
