"""A home of its own for every test, and every backend a store can have."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run
from hybridlab.runs.store import Store

POSTGRES_VARIABLE = "HYBRIDLAB_TEST_POSTGRES"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    monkeypatch.delenv("HYBRIDLAB_SLOTS", raising=False)
    monkeypatch.setenv("HYBRIDLAB_SPARES", "0")
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
        return
    server = os.environ.get(POSTGRES_VARIABLE)
    if not server:
        pytest.skip(f"no PostgreSQL to test against: {POSTGRES_VARIABLE} holds no URL")
    schema = f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(sa.make_url(server).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
    yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(sa.schema.DropSchema(schema, cascade=True))
    engine.dispose()


@pytest.fixture
def store(store_address: str) -> Iterator[Store]:
    opened = Store(store_address)
    yield opened
    opened.close()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two MiB, where the system lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not mount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Given:
    """Short ways to a run in a state, for tests that are about what comes after."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def queued(self, name: str = "run", **more: object) -> Run:
        return self.store.create("train", name, {"steps": 3}, home="here", **more)

    def running(self, name: str = "run", token: str = "token") -> tuple[Run, Lease]:
        run = self.store.leases.claim(self.queued(name).id, token, pid=1, birth="then")
        assert run is not None
        return run, Lease(run.id, token)


@pytest.fixture
def given(store: Store) -> Given:
    return Given(store)
