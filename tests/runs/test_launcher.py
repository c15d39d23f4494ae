"""What pages and the command line call: submit, wait, cancel, resume, delete; and who starts the supervisor."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hybridlab import runs
from hybridlab.errors import RunError, StoreError
from hybridlab.runs import launcher, processes
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.lock import is_locked
from hybridlab.runs.record import RunState
from hybridlab.runs.slots import capacity


@pytest.fixture
def quiet(home, monkeypatch):
    """Nobody starts a supervisor, so runs stay as they were put."""
    monkeypatch.setattr(launcher, "_ensure", lambda *_, **__: True)


@pytest.fixture
def ended(quiet):
    run = launcher.submit("train", "x", {})
    store = runs.open_store()
    store.leases.claim(run.id, "t", pid=1, birth="b")
    store.leases.finish(Lease(run.id, "t"), RunState.DONE)
    return run


def test_a_submitted_run_has_a_folder_and_its_share_of_the_cores(quiet):
    run = runs.submit("train", "x", {"a": 1}, owner="Ada", device="cpu")
    assert run_folder(run.id).is_dir()
    assert (run.threads, run.owner, run.device) == (capacity().share, "Ada", "cpu")
    assert runs.submit("train", "x", {}, threads=3).threads == 3


def test_what_cannot_be_submitted_leaves_nothing_behind(quiet, home):
    for call in (
        lambda: runs.submit("train", "x", {}, threads=0),
        lambda: runs.submit("train", "x", {"bad": {1, 2}}),
    ):
        with pytest.raises(RunError):
            call()
    assert runs.open_store().list() == []
    assert list((home / "runs").iterdir()) == []


def test_a_wrong_number_of_slots_is_said_at_once(quiet, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_SLOTS", "many")
    with pytest.raises(RunError, match=r"HYBRIDLAB_SLOTS: not a number of runs.*'many'"):
        runs.submit("train", "x", {})


@pytest.mark.parametrize("name", ["../../etc", "", "x" * 12 + "/..", "0" * 11 + "\n", "é" * 12])
def test_what_is_no_id_never_becomes_a_path(quiet, name):
    for call in (runs.delete, runs.cancel, runs.resume, run_folder, runs.read_log):
        with pytest.raises(RunError, match="not a run id"):
            call(name)


def test_deleting_takes_the_folder_and_nothing_it_links_to(ended, home, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep")
    folder = run_folder(ended.id)
    (folder / "link").symlink_to(tmp_path / "precious")
    runs.delete(ended.id)
    assert not folder.exists()
    assert not (home / "trash").exists()
    assert (tmp_path / "precious" / "file").read_text() == "keep"
    assert runs.open_store().list() == []
    with pytest.raises(RunError, match="no such run"):
        runs.delete(ended.id)


def test_a_running_run_keeps_its_folder(quiet):
    run = launcher.submit("train", "x", {})
    runs.open_store().leases.claim(run.id, "t", pid=1, birth="b")
    with pytest.raises(RunError, match="cancel it first"):
        runs.delete(run.id)
    assert run_folder(run.id).is_dir()


def test_a_run_whose_folder_is_gone_can_be_deleted(ended):
    run_folder(ended.id).rmdir()
    runs.delete(ended.id)
    assert runs.open_store().list() == []


def test_a_failed_deletion_puts_the_folder_back(ended, monkeypatch):
    (run_folder(ended.id) / "file").write_text("here")
    store = runs.open_store()
    delete = store.delete

    def break_after(run_id, beside):
        def fall():
            beside()
            raise StoreError("the disk is gone")

        delete(run_id, beside=fall)

    monkeypatch.setattr(store, "delete", break_after)
    with pytest.raises(StoreError, match="disk is gone"):
        runs.delete(ended.id)
    assert (run_folder(ended.id) / "file").read_text() == "here"
    assert runs.open_store().get(ended.id).state is RunState.DONE


def test_waiting_for_a_run_has_an_end(quiet):
    run = launcher.submit("train", "x", {})
    with pytest.raises(RunError, match=r"still queued after 0\.3 s"):
        runs.wait(run.id, timeout=0.3)
    with pytest.raises(RunError, match="no such run"):
        runs.wait("0" * 12)


def test_a_reader_brings_the_supervisor_back_and_learns_the_truth(home):
    """The real thing: started by need, killed, replaced by whoever looks; a dead worker is told within 10 s."""
    try:
        assert not runs.ensure_supervisor(), "nothing to do, so none is started"
        run = runs.submit("no_such_kind", "x", {})
        failed = runs.wait(run.id, timeout=60)
        assert failed.state is RunState.FAILED
        assert "no such kind of run" in failed.error
        first = runs.facts()["supervisor_pid"]
        os.kill(first, signal.SIGKILL)

        store = runs.open_store()
        orphan = store.create("train", "x", {}, home=launcher.home_id())
        store.leases.claim(orphan.id, "t", pid=2**22 + 1, birth="gone")
        store.leases.beat(Lease(orphan.id, "t"))
        began = time.monotonic()
        told = runs.wait(orphan.id, timeout=30)
        assert told.state is RunState.INTERRUPTED
        assert time.monotonic() - began < 10
        assert runs.facts()["supervisor_pid"] not in {first, None}
    finally:
        end_supervisor(home)


def test_a_page_server_that_is_killed_takes_nothing_with_it(home):
    code = (
        "import time\n"
        "from hybridlab import runs\n"
        "print(runs.submit('no_such_kind', 'x', {}).id, flush=True)\n"
        "time.sleep(60)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        run_id = server.stdout.readline().strip()
        until(lambda: runs.facts()["supervisor_pid"])
        supervisor = runs.facts()["supervisor_pid"]
        server.kill()
        server.communicate()
        ended = runs.wait(run_id, timeout=60)
        assert ended.state is RunState.FAILED
        assert "no such kind of run" in ended.error
        assert runs.facts()["supervisor_pid"] == supervisor
    finally:
        end_supervisor(home)


def end_supervisor(home):
    pid = runs.facts()["supervisor_pid"]
    if pid:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_locked(home / "supervisor.lock"))


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"did not come about within {seconds} s")


def test_a_supervisor_that_cannot_start_is_told_in_its_own_words(home, monkeypatch):
    broken = [sys.executable, "-c", "raise SystemExit('nothing works here')"]
    monkeypatch.setattr(launcher, "module_command", lambda *_: broken)
    run = runs.submit("train", "x", {})
    with pytest.raises(RunError, match=r"cannot start.*nothing works here"):
        runs.wait(run.id, timeout=30)


def test_a_process_is_known_by_number_and_birth(home):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = processes.birth(child.pid)
    assert processes.is_alive(child.pid, born)
    assert not processes.is_alive(child.pid, born + "1")
    assert not processes.send(child.pid, "another boot-1", signal.SIGKILL)
    assert not processes.send(None, "", signal.SIGKILL)
    assert child.poll() is None
    assert processes.send(child.pid, born, signal.SIGKILL)
    until(lambda: not processes.is_alive(child.pid, born), 5)
    assert processes.birth(child.pid) is None, "a zombie is dead"
    child.communicate()
    assert processes.birth(child.pid) is None
