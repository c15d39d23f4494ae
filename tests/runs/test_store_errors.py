"""Stores that cannot be opened or written say why, where, and what helps."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybridlab.errors import StoreError
from hybridlab.runs import database
from hybridlab.runs.database import StoreBusyError, StoreFullError
from hybridlab.runs.home import home_id, prepare_home, store_url
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RunState
from hybridlab.runs.store import Store, open_store

GOLDEN = Path(__file__).parent / "golden"


def test_a_home_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "file" / "home"))
    for call in (prepare_home, home_id):
        with pytest.raises(StoreError, match=r"file/home: .*cannot be written.*HYBRIDLAB_HOME"):
            call()
    with pytest.raises(StoreError, match="cannot be written"):
        Store(store_url())


def test_a_home_that_only_others_may_write(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o555)
    code = (
        "import os, sys\n"
        "from hybridlab.runs.store import open_store\n"
        "from hybridlab.errors import StoreError\n"
        "open_store(sys.argv[1]).close()\n"  # imports what needs a disk this user cannot read
        "if os.geteuid() == 0: os.setuid(65534)\n"  # root may write anywhere: go on as nobody
        "try: open_store()\n"
        "except StoreError as error: print(error)\n"
    )
    warm = f"sqlite:///{tmp_path / 'warm.sqlite'}"
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", code, warm],
        env=os.environ | {"HYBRIDLAB_HOME": str(locked / "home")},
        capture_output=True,
        text=True,
    )
    assert "the HybridLab folder cannot be written" in done.stdout, done.stderr
    assert "permission denied" in done.stdout


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this is certainly not a database" * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite: the store is damaged.*backup"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is")


def test_a_database_with_a_hole(tmp_path):
    path = tmp_path / "store.sqlite"
    store = Store(f"sqlite:///{path}")
    for number in range(50):
        store.create("train", f"{number}", {"text": "x" * 1000})
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError, match="the store is damaged"):
        Store(f"sqlite:///{path}").list()


def test_a_store_from_a_newer_version(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    Store(url).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"newer HybridLab.*got 99.*update HybridLab"):
        Store(url)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/x", "sqlite://", "http://a/b"])
def test_urls_that_name_no_store(url):
    with pytest.raises(StoreError, match="URL is not understood"):
        Store(url)


def test_a_server_that_does_not_answer_keeps_its_password():
    pytest.importorskip("psycopg", reason="needs the postgres extra")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        Store("postgresql://ada:secret@127.0.0.1:1/lab")
    assert "secret" not in str(caught.value)
    assert "ada:***@127.0.0.1" in str(caught.value)


def test_a_locked_store(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    run = store.create("train", "x", {})
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="another program has kept the store locked"):
        store.create("train", "y", {})
    assert store.get(run.id) == run, "readers do not wait"
    other.execute("ROLLBACK")
    other.close()
    store.create("train", "y", {})
    store.close()


def test_a_full_disk_says_so_and_nothing_is_lost(small_disk):
    store = Store(f"sqlite:///{small_disk / 'store.sqlite'}")
    run = store.create("train", "x", {})
    assert store.leases.claim(run.id, "t", pid=1, birth="b")
    lease = Lease(run.id, "t")
    points = [Point(1, "loss", 0.5, 0.1)] * 500
    written = 0
    with pytest.raises(StoreFullError, match=r"disk that holds the store is full; free some room"):
        for _ in range(1000):
            store.leases.beat(lease, points)
            written += 1
    assert written > 2
    assert len(store.metrics(run.id)) == written * 500
    subprocess.run(
        ["mount", "-o", "remount,size=8m", str(small_disk)], check=True, capture_output=True
    )
    store.leases.beat(lease, points)
    assert store.leases.finish(lease, RunState.DONE)
    assert len(store.metrics(run.id)) == (written + 1) * 500
    store.close()


def test_a_store_that_was_moved_away_is_opened_anew(home):
    first = open_store()
    first.create("train", "x", {})
    assert open_store() is first
    shutil.rmtree(home)
    assert open_store().list() == []


def test_stores_of_version_1_keep_loading(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "store_v1.sql").read_text(encoding="utf-8"))
    connection.close()
    store = Store(f"sqlite:///{path}")
    done, interrupted = store.list(oldest_first=True)
    assert (done.state, done.name, done.threads) == (RunState.DONE, "hymba_mini", 1)
    assert done.result == {"state": "DONE", "metrics": {"test_accuracy": 0.97}}
    assert (interrupted.state, interrupted.step) == (RunState.INTERRUPTED, 40)
    assert store.metrics(done.id).series("loss") == ([1, 2], [2.5, 1.25])
    assert store.resume(interrupted.id).state is RunState.QUEUED
    store.close()


def test_threads_share_a_store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    threads = [
        threading.Thread(target=lambda: [store.create("train", "x", {}) for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.id for run in store.list()}) == 40
    store.close()
