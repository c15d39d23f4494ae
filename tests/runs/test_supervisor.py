"""The supervisor and its workers as real processes, killed at awkward moments."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hybridlab.errors import RunError
from hybridlab.runs import launcher, processes
from hybridlab.runs.condition import facts
from hybridlab.runs.home import prepare_home, run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.lock import is_locked
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import Capacity
from hybridlab.runs.store import open_store
from hybridlab.runs.supervisor import Supervisor

SCRIPT = Path(__file__).parent / "verbs.py"
LOCK = "supervisor.lock"


class Lab:
    """A home with a supervisor whose workers know the small workflows of ``verbs.py``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = open_store()
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def supervise(self, *options: str, worker: str = str(SCRIPT)) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hybridlab.runs.supervisor", "--cores", "2", "--slots"]
        command += ["2", "--spares", "0", *options, "--worker"]
        command.append(shlex.join([sys.executable, worker, "--wait"]))
        with (self.home / "supervisor.log").open("ab") as log:
            self.supervisors.append(subprocess.Popen(command, stdout=log, stderr=log))
        self.until(lambda: is_locked(self.home / LOCK))
        return self.supervisors[-1]

    def kill_supervisor(self) -> None:
        self.supervisors[-1].kill()
        self.supervisors[-1].wait()

    def until(self, condition, seconds: float = 60.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(
            f"did not come about within {seconds} s; the supervisor says:\n"
            + (self.home / "supervisor.log").read_text()
        )

    def state(self, run: Run) -> RunState:
        return self.store.get(run.id).state

    def until_state(self, run: Run, *states: RunState, seconds: float = 60.0) -> Run:
        self.until(lambda: self.state(run) in states, seconds)
        return self.store.get(run.id)

    def until_moving(self, run: Run) -> Run:
        self.until(lambda: self.store.get(run.id).step > 2)
        return self.store.get(run.id)

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.kill()
            supervisor.wait()
        if self.home.exists():
            for run in self.store.list(states=[RunState.RUNNING]):
                processes.send(run.pid, run.birth, signal.SIGKILL)
        self.store.close()


@pytest.fixture
def lab(home, monkeypatch):
    prepare_home()
    # Only supervisors that a test starts: one of the launcher's would know the real workflows.
    monkeypatch.setattr(launcher, "_ensure", lambda *_, **__: True)
    made = Lab(home)
    yield made
    made.close()


def test_a_submitted_run_starts_and_ends(lab):
    lab.supervise()
    run = launcher.submit("quick", "first", {})
    seen = []
    ended = launcher.wait(run.id, lambda now, columns: seen.append((now.state, len(columns))))
    assert (ended.state, ended.result["answer"], ended.granted) == (RunState.DONE, 42, "")
    assert seen[-1][0] is RunState.DONE
    assert sum(count for _, count in seen) >= 3


def test_the_allocators_settings_are_there_before_a_worker_imports_anything(lab, monkeypatch):
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    lab.supervise("--spares", "1")
    training = {"task": "parity", "allocator": {"max_split_size_mb": 64, "backend": "other"}}
    asked = launcher.submit("born", "with settings", {"training": training}, threads=1)
    plain = launcher.submit("born", "without", {"training": {"task": "parity"}}, threads=1)
    told = [lab.until_state(run, RunState.DONE).result for run in (asked, plain)]
    assert told[0] == {"with": "max_split_size_mb:64", "has": "max_split_size_mb:64"}
    assert told[1] == {"with": None, "has": None}
    assert lab.store.get(asked.id).spec["training"] == training, "the record keeps them"


def test_a_warm_worker_begins_within_300_ms(lab):
    lab.supervise("--spares", "1")

    def delay(threads: int) -> float:
        began = time.monotonic()
        run = launcher.submit("quick", "x", {}, threads=threads)
        lab.until(lambda: lab.store.get(run.id).heartbeat > 0)
        return time.monotonic() - began

    cold = delay(threads=2)  # there are warm workers for one thread only
    time.sleep(1)
    warm = [delay(threads=1)]
    time.sleep(4.5)  # the next warm worker is started after a pause
    warm.append(delay(threads=1))
    assert min(warm) < max(0.3, 0.4 * cold), f"{warm} on a machine where a cold start takes {cold}"


def test_the_queue_is_in_order_and_keeps_to_the_cores(lab):
    runs = [launcher.submit("slow", f"{n}", {"steps": 15}, threads=1) for n in range(3)]
    wide = launcher.submit("slow", "wide", {"steps": 15}, threads=2)
    last = launcher.submit("slow", "last", {"steps": 15}, threads=1)
    runs += [wide, last]
    lab.supervise()
    most = 0
    while lab.store.count_by_state()[RunState.DONE] < len(runs):
        busy = lab.store.list(states=[RunState.RUNNING])
        most = max(most, sum(run.threads for run in busy))
        assert wide.id not in {run.id for run in busy} or len(busy) == 1
        time.sleep(0.02)
    assert most == 2
    ended = [lab.store.get(run.id) for run in runs]
    starts = [run.started for run in ended]
    assert starts == sorted(starts)
    assert [run.result["threads"] for run in ended] == ["1", "1", "1", "2", "1"]


def test_a_killed_worker_is_told_within_10_s_and_its_run_goes_on(lab):
    lab.supervise()
    run = launcher.submit("slow", "x", {"steps": 80})
    moving = lab.until_moving(run)
    os.kill(moving.pid, signal.SIGKILL)
    began = time.monotonic()
    dead = lab.until_state(run, RunState.INTERRUPTED)
    assert time.monotonic() - began < 5
    assert "SIGKILL" in dead.error
    assert "resume the run" in dead.error
    launcher.resume(run.id)
    done = lab.until_state(run, RunState.DONE)
    assert (done.attempt, done.result["counted"], done.error) == (2, 80, "")
    assert lab.store.metrics(run.id).series("loss")[0] == list(range(1, 81))


def test_workers_that_crash_leave_fall_silent_or_stay_deaf(lab):
    lab.supervise("--cores", "4", "--slots", "4")
    words = {
        "segfault": "SIGSEGV",
        "exit": "without a result (exit code 9)",
        "SIGSTOP": "stopped answering after step 5",
    }
    deaf = launcher.submit("deaf", "deaf", {}, threads=1)
    runs = {how: launcher.submit("leave", how, {"how": how}, threads=1) for how in words}
    lab.until(lambda: lab.store.get(deaf.id).step == 1)
    launcher.cancel(deaf.id)
    began = time.monotonic()
    for how, run in runs.items():
        assert words[how] in lab.until_state(run, RunState.INTERRUPTED).error
    lab.until_state(deaf, RunState.CANCELLED)
    assert 10 < time.monotonic() - began < 25, "asked, then told, then killed"
    for run in lab.store.list():
        lab.until(lambda run=run: not processes.is_alive(run.pid, run.birth))


def test_a_killed_supervisor_is_replaced_and_adopts_its_workers(lab):
    lab.supervise()
    run = launcher.submit("slow", "x", {"steps": 150})
    other = launcher.submit("slow", "y", {"steps": 100_000})
    waiting = launcher.submit("quick", "z", {}, threads=2)
    pids = [lab.until_moving(one).pid for one in (run, other)]
    lab.kill_supervisor()
    assert all(psutil.pid_exists(pid) for pid in pids), "workers outlive their supervisor"
    lab.supervise()
    done = lab.until_state(run, RunState.DONE)
    assert (done.pid, done.attempt) == (pids[0], 1)
    assert lab.state(waiting) is RunState.QUEUED
    os.kill(pids[1], signal.SIGKILL)
    assert "died" in lab.until_state(other, RunState.INTERRUPTED).error
    lab.until_state(waiting, RunState.DONE)


def test_both_killed_is_told_by_the_next_supervisor(lab):
    lab.supervise()
    run = launcher.submit("slow", "x", {"steps": 100_000})
    moving = lab.until_moving(run)
    lab.kill_supervisor()
    os.kill(moving.pid, signal.SIGKILL)
    began = time.monotonic()
    lab.supervise()
    lab.until_state(run, RunState.INTERRUPTED)
    assert time.monotonic() - began < 10


def test_a_recycled_pid_is_not_taken_for_the_worker(lab):
    """The pid of a dead worker now belongs to this very test process, which must survive."""
    run = lab.store.create("slow", "x", {"steps": 3}, home=launcher.home_id())
    lab.store.leases.claim(run.id, "gone", pid=os.getpid(), birth="another boot-17")
    lab.store.leases.beat(Lease(run.id, "gone"))
    lab.supervise()
    assert "died" in lab.until_state(run, RunState.INTERRUPTED).error


def test_a_run_claimed_by_a_supervisor_that_died_then_goes_back_into_the_queue(lab):
    run = lab.store.create("quick", "x", {}, home=launcher.home_id())
    lab.store.leases.claim(run.id, "gone", pid=2**22 + 1, birth="never")
    lab.supervise()
    done = lab.until_state(run, RunState.DONE)
    assert done.attempt == 1


def test_cancel_reaches_the_running_and_the_waiting(lab):
    lab.supervise()
    run = launcher.submit("slow", "x", {"steps": 100_000}, threads=2)
    waiting = launcher.submit("quick", "z", {})
    lab.until_moving(run)
    assert launcher.cancel(waiting.id).state is RunState.CANCELLED
    began = time.monotonic()
    launcher.cancel(run.id)
    lab.until_state(run, RunState.CANCELLED)
    assert time.monotonic() - began < 4


def test_runs_of_another_home_are_left_alone(lab):
    other = lab.store.create("quick", "elsewhere", {}, home="another")
    lab.supervise()
    mine = launcher.submit("quick", "here", {})
    lab.until_state(mine, RunState.DONE)
    assert lab.state(other) is RunState.QUEUED
    lab.store.request_cancel(other.id)
    with pytest.raises(RunError, match="belongs to another HybridLab folder"):
        launcher.resume(other.id)


def test_of_two_supervisors_one_stays(lab):
    first = lab.supervise()
    second = lab.supervise()
    assert second.wait(15) == 0
    assert first.poll() is None
    assert facts()["supervisor_pid"] == first.pid
    run = launcher.submit("quick", "x", {})
    lab.until_state(run, RunState.DONE)


def test_an_idle_supervisor_goes_and_a_busy_one_stays(lab):
    run = launcher.submit("slow", "x", {"steps": 100})
    supervisor = lab.supervise("--idle-seconds", "0.5")
    lab.until_state(run, RunState.DONE)
    assert supervisor.wait(10) == 0
    assert not is_locked(lab.home / LOCK)


def test_a_supervisor_whose_home_is_deleted_ends_its_workers_and_itself(lab):
    supervisor = lab.supervise()
    run = launcher.submit("deaf", "x", {})
    lab.until(lambda: lab.store.get(run.id).heartbeat > 0)
    alive = lab.store.get(run.id)
    shutil.rmtree(lab.home)
    assert supervisor.wait(15) == 0
    deadline = time.monotonic() + 10
    while processes.is_alive(alive.pid, alive.birth) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes.is_alive(alive.pid, alive.birth)
    assert not lab.home.exists()


def test_workers_end_with_their_home_though_the_store_was_found_empty(lab):
    """A look between the home's end and the supervisor's finds no run in a store made anew."""
    watcher = Supervisor(lab.store, given=Capacity(1, 1), command=["false"])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watcher._children["lease"] = child
    assert watcher._known == []
    watcher.close()
    assert child.poll() is None, "workers outlive a supervisor"
    watcher.close(kill=True)
    assert child.wait(10) == -signal.SIGKILL


def test_a_worker_that_cannot_start_has_failed_with_its_words_in_the_log(lab):
    (lab.home / "broken.py").write_text("raise SystemExit('cannot begin')")
    lab.supervise(worker=str(lab.home / "broken.py"))
    run = launcher.submit("quick", "x", {})
    failed = lab.until_state(run, RunState.FAILED)
    assert "ended before it began (exit code 1)" in failed.error
    assert "cannot begin" in (run_folder(run.id) / "log.txt").read_text()


def test_a_full_disk_is_told_and_the_next_run_works(small_disk, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(small_disk / "home"))
    monkeypatch.setattr(launcher, "_ensure", lambda *_, **__: True)
    prepare_home()
    lab = Lab(small_disk / "home")
    try:
        lab.supervise()
        lab.until(lambda: (lab.home / "reserve").exists())
        run = launcher.submit("fill", "x", {})
        failed = lab.until_state(run, RunState.FAILED, seconds=15)
        assert failed.error.startswith("The disk is full")
        launcher.delete(run.id)
        again = launcher.submit("quick", "y", {})
        lab.until_state(again, RunState.DONE)
        lab.until(lambda: (lab.home / "reserve").exists())
    finally:
        lab.close()


def test_facts_say_how_things_stand(lab):
    before = facts()
    assert (before["supervisor_alive"], before["supervisor_pid"]) == (False, None)
    lab.supervise()
    launcher.wait(launcher.submit("quick", "x", {}).id, timeout=60)
    now = facts()
    assert now["supervisor_alive"]
    assert now["runs"]["DONE"] == 1
    assert now["home"] == str(lab.home)
    assert now["store"].endswith("store.sqlite")
    assert now["cores"] >= now["slots"] * now["threads_per_run"] >= 1
    json.dumps(now)
