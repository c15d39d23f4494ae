"""One worker process, alone: how workflows end, what reaches the store and when."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybridlab.errors import RunError
from hybridlab.runs import worker
from hybridlab.runs.context import EXIT_LEASE_LOST
from hybridlab.runs.folder import read_log
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import Store, open_store
from hybridlab.runs.verdict import EXIT_DISK_FULL, verdict
from hybridlab.workflows import __main__ as workflows

SCRIPT = Path(__file__).parent / "verbs.py"


@pytest.fixture
def store(home):
    opened = open_store()
    yield opened
    opened.close()


def start(run: Run) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(SCRIPT), run.id], stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=30)
    return process.returncode


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not come about within {seconds} s")


def run_to_end(store: Store, kind: str, **spec: object) -> tuple[Run, int]:
    run = store.create(kind, kind, spec)
    code = finish(start(run))
    return store.get(run.id), code


def test_a_workflow_that_returns_is_done(store):
    run, code = run_to_end(store, "quick")
    assert (run.state, code, run.error) == (RunState.DONE, 0, "")
    assert run.result == {"answer": 42, "resumed": False}
    assert (run.step, run.steps, run.attempt) == (3, 3, 1)
    assert run.heartbeat >= 2
    assert store.metrics(run.id).series("loss") == ([1, 2, 3], [1.0, 1 / 2, 1 / 3])
    assert '"answer": 42' in (run_folder(run.id) / "result.json").read_text()


@pytest.mark.parametrize(
    ("what", "sentence", "code"),
    [
        ("ours", "task: unknown task (expected parity, got <b>x</b>)", 1),
        ("memory", "Not enough memory after step 7; use a smaller batch", 1),
        ("torch_memory", "Not enough memory after step 7; use a smaller batch", 1),
        (
            "device",
            "The device was lost after step 7: this process cannot use it any more. Resume",
            1,
        ),
        ("disk", "The disk is full (/x/model.safetensors): step 7 could not be", EXIT_DISK_FULL),
        ("other", "ZeroDivisionError: division by zero (the log has the details)", 1),
        ("exit", "SystemExit: 3", 1),
        ("wordless", "The workflow raised ValueError", 1),
    ],
)
def test_a_workflow_that_raises_has_failed_with_a_sentence(store, what, sentence, code):
    run, ended = run_to_end(store, "fail", what=what)
    assert (run.state, ended, run.result) == (RunState.FAILED, code, None)
    assert run.error.startswith(sentence)
    assert "Traceback" not in run.error
    assert "Traceback" in read_log(run.id).text


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("nonsense", "there is no such kind of run"),
        ("absent", "ModuleNotFoundError: No module named 'hybridlab_absent'"),
        ("late", "AttributeError: module 'json' has no attribute 'absent_function'"),
    ],
)
def test_a_workflow_that_cannot_be_found(store, kind, sentence):
    run, code = run_to_end(store, kind)
    assert (run.state, code) == (RunState.FAILED, 1)
    assert sentence in run.error


def test_everything_said_is_in_the_log(store):
    run, _ = run_to_end(store, "speak")
    text = read_log(run.id).text
    for line in ("plain ü", "error", "below python \ufffd", "from a child", "--- attempt 1"):
        assert line in text


def test_cancel_stops_at_the_next_step(store):
    run = store.create("slow", "x", {"steps": 10_000})
    process = start(run)
    until(lambda: store.get(run.id).step > 3)
    store.request_cancel(run.id)
    assert finish(process) == 0
    ended = store.get(run.id)
    assert (ended.state, ended.error) == (RunState.CANCELLED, "")
    assert 3 < ended.step < 10_000
    assert store.metrics(run.id).series("loss")[0] == list(range(1, ended.step + 1))


def test_sigterm_interrupts_and_the_run_goes_on_exactly(store):
    run = store.create("slow", "x", {"steps": 60})
    process = start(run)
    until(lambda: store.get(run.id).step > 3)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 128 + signal.SIGTERM
    stopped = store.get(run.id)
    assert stopped.state is RunState.INTERRUPTED
    assert "asked the worker to stop" in stopped.error
    store.resume(run.id)
    finish(start(run))
    ended = store.get(run.id)
    assert (ended.state, ended.attempt, ended.result["counted"]) == (RunState.DONE, 2, 60)
    columns = store.metrics(run.id)
    assert columns.series("loss")[0] == list(range(1, 61))
    assert columns.seconds == sorted(columns.seconds)
    assert columns.truncations == 1


def test_points_reach_the_store_within_250_ms(store):
    run = store.create("measure", "x", {"steps": 60})
    process = start(run)
    after, delays = 0, []
    while process.poll() is None:
        columns = store.metrics(run.id, after, names=["moment"])
        now = time.monotonic()
        delays += [now - moment for moment in columns.value]
        after = columns.last
        time.sleep(0.005)
    process.communicate()
    assert len(delays) == 60
    soon = sum(delay < 0.25 for delay in delays)
    assert soon >= 48, f"{soon} of 60 in time; a few may wait for a busy machine: {delays}"


def test_memory_and_cores_are_sampled(store):
    run, _ = run_to_end(store, "slow", steps=40, seconds=0.04)
    columns = store.metrics(run.id)
    steps, rss = columns.series("rss_bytes")
    assert len(rss) >= 1
    assert all(10e6 < value < 10e9 for value in rss)
    assert all(value >= 0 for value in columns.series("cpu_percent")[1])
    assert 0 < steps[0] < 40


def test_a_worker_that_lost_its_lease_leaves_at_once(store):
    run = store.create("deaf", "x", {})
    process = start(run)
    until(lambda: store.get(run.id).heartbeat > 0)
    lease = Lease(run.id, store.get(run.id).lease)
    store.leases.finish(lease, RunState.INTERRUPTED)
    store.resume(run.id)
    other = store.leases.claim(run.id, "other", pid=1, birth="b")
    assert finish(process) == EXIT_LEASE_LOST
    assert store.get(run.id) == other


def test_a_stopped_worker_wakes_up_without_its_run(store):
    run = store.create("slow", "x", {"steps": 10_000})
    process = start(run)
    until(lambda: store.get(run.id).step > 3)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.1)
    lease = Lease(run.id, store.get(run.id).lease)
    assert store.leases.finish(lease, RunState.INTERRUPTED)
    before = store.get(run.id), store.metrics(run.id)
    os.kill(process.pid, signal.SIGCONT)
    assert finish(process) == EXIT_LEASE_LOST
    assert (store.get(run.id), store.metrics(run.id)) == before


@pytest.mark.parametrize("state", ["DONE", "absent"])
def test_only_a_queued_run_is_taken(store, state):
    if state == "DONE":
        run, _ = run_to_end(store, "quick")
        name = run.id
    else:
        name = "0" * 12
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert ("only a queued run" if state == "DONE" else "no such run") in done.stderr


def test_a_waiting_worker_without_a_supervisor_goes_home(home):
    done = subprocess.run([sys.executable, str(SCRIPT), "--wait"], input=b"", timeout=30)
    assert done.returncode == 0


def test_a_worker_keeps_to_its_threads(store):
    for count in (1, 2):
        run = store.create("threads", "x", {}, threads=count)
        finish(start(run))
        result = store.get(run.id).result
        # torch comes in late here, after the harness had its say: the variables must do
        assert result["torch"] == count
        assert set(result["variables"].values()) == {str(count)}


def test_the_real_worker_module_knows_its_usage(home):
    command = [sys.executable, "-m", "hybridlab.workflows"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
    done = subprocess.run([*command, "0" * 12], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no such run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_accelerator_is_told_from_other_errors_and_from_full_memory():
    lost = type("AcceleratorError", (RuntimeError,), {})
    state, sentence = verdict(lost("HIP error: hipErrorUnknown\nmore"), 12)
    assert state is RunState.FAILED and state.resumable
    assert "lost after step 12" in sentence and sentence.endswith("hipErrorUnknown")
    full = type("OutOfMemoryError", (lost,), {})
    assert "Not enough memory" in verdict(full("CUDA out of memory. Tried to allocate"), 3)[1]
    assert "lost" not in verdict(RuntimeError("shapes do not fit"), 3)[1]
    assert "was lost" not in verdict(RunError("the device lost nothing of this: a sentence"), 3)[1]


def test_a_worker_that_was_given_a_run_along_makes_nothing_else_ready(monkeypatch):
    made = []
    monkeypatch.setattr(workflows, "warm", lambda: made.append("warm"))
    monkeypatch.setattr(worker, "serve", lambda verbs, source: 0)
    reading, writing = os.pipe()
    with os.fdopen(reading) as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert workflows.main(["--wait"]) == 0 and made == ["warm"]
        os.write(writing, b"{}\n")
        assert workflows.main(["--wait"]) == 0 and made == ["warm"]
        source.readline()
        os.close(writing)
        assert workflows.main(["--wait"]) == 0 and made == ["warm"], "its supervisor has gone"
