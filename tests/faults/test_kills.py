"""Kill a real training at random moments: no checkpoint unreadable, no run lost, the same weights to the bit."""

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridlab.runs import supervisor
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import Capacity
from hybridlab.runs.store import open_store
from hybridlab.training import checkpoint

KILLS = int(os.environ.get("HYBRIDLAB_KILLS", "25"))
"""How often a training is killed; ``make faults``, which CI runs too, kills 200 times and takes some minutes."""
PARTS = max(1, KILLS // 100)
"""Trainings of each way that are killed beside each other, each so often that all together make ``KILLS``."""
ZYGOTE = Path(__file__).parent / "zygote.py"
IN_SAVE, SAVE_NS, UPDATES = 0, 8, 16
SPEC: dict[str, Any] = {
    "architecture": (
        "name: mini\nwidth: 16\nnodes:\n"
        "  - {use: lstm}\n  - {use: attention, heads: 2}\n  - {use: swiglu}\n"
    ),
    "training": {
        "task": "parity",
        "task_params": {"length": 8, "longer": 12},
        "steps": 24,
        "batch": 8,
        "warmup_steps": 5,
        "eval_every": 8,
        "checkpoint_every": 1,
        "keep_checkpoints": 2,
        "device": "cpu",
        "seed": 3,
    },
    "preset": None,
}


GROWING: dict[str, Any] = {
    "architecture": (
        "name: grows\nwidth: 16\nnodes:\n"
        "  - {id: stage, nodes: [{use: attention, heads: 2}, {use: swiglu}]}\n  - {use: lstm}\n"
    ),
    "training": SPEC["training"]
    | {
        "stages": [
            {"name": "easy", "until": {"steps": 8}, "task_params": {"length": 4}},
            {
                "name": "larger",
                "until": {"steps": 9, "train_loss": 5.0, "window": 8},
                "grow": {"stage": 1},
            },
            {"name": "largest", "grow": {"stage": 2}, "freeze": "lstm"},
        ]
    },
    "preset": None,
}
"""Its stages begin after 8 and after 16 steps, so that kills fall into all of them and on their borders."""
WAYS = {"plain": SPEC, "growing": GROWING}


class Watcher(supervisor.Supervisor):
    """The product's supervisor, except that the test starts the workers."""

    def _start(self, run: Run, granted: str) -> bool:
        return False


class Trainings:
    """Workers forked from one warm process, and a supervisor that looks after they were killed."""

    def __init__(self, folder: Path) -> None:
        marks = folder / "marks"
        marks.write_bytes(bytes(24))
        with marks.open("r+b") as file:
            self._marks = mmap.mmap(file.fileno(), 0)
        self._zygote = subprocess.Popen(
            [sys.executable, str(ZYGOTE), str(marks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._answer() == "ready"
        self.store = open_store()
        self.watcher = Watcher(self.store, given=Capacity(1, 1), command=["false"])

    def mark(self, place: int) -> int:
        return struct.unpack_from("q", self._marks, place)[0]

    def submit(self, way: str) -> Run:
        return self.store.create("train", "kill me", WAYS[way], home=home_id())

    def begin(self, run: Run) -> int:
        struct.pack_into("q", self._marks, IN_SAVE, 0)
        return int(self._answer(run.id))

    def end(self) -> int:
        return int(self._answer(""))

    def _answer(self, line: str | None = None) -> str:
        if line is not None:
            self._zygote.stdin.write(line + "\n")
            self._zygote.stdin.flush()
        return self._zygote.stdout.readline().strip()

    def close(self) -> None:
        self._zygote.communicate(timeout=30)
        self._marks.close()
        self.store.close()


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    made = Trainings(tmp_path)
    yield made
    made.close()


def checkpoints(run: Run) -> list[int]:
    """Read every checkpoint whole and return their steps; an unreadable one raises."""
    folder = run_folder(run.id) / "checkpoints"
    found = [checkpoint.load(path) for path in sorted(folder.glob("step-*"))]
    for one in found:
        assert one.model()
        assert one.optimiser()
    return [one.step for one in found]


def curve(trainings: Trainings, run: Run, name: str = "loss") -> list[tuple[int, float]]:
    return list(zip(*trainings.store.metrics(run.id).series(name), strict=True))


def weights(run: Run) -> bytes:
    return (run_folder(run.id) / "weights.safetensors").read_bytes()


def kill_once(trainings: Trainings, run: Run, chance: random.Random) -> bool:
    """Fork a worker and kill it at a random moment; say whether it died of that."""
    before = trainings.mark(UPDATES)
    pid = trainings.begin(run)
    longest = 0.25
    moment = chance.random()
    if (
        moment > 0.15
    ):  # at work; before that, it opens the store, builds the model, reads the checkpoint
        until(lambda: trainings.mark(UPDATES) > before or has_ended(pid))
    if moment > 0.6:  # while it writes a checkpoint, most likely
        until(lambda: trainings.mark(IN_SAVE) or has_ended(pid))
        longest = trainings.mark(SAVE_NS) / 1e9
    time.sleep(chance.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    status = trainings.end()
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def has_ended(pid: int) -> bool:
    """Say whether a worker is through, and only waits to be collected."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.0005)


@dataclass
class Unbroken:
    """What a training comes to when nobody disturbs it."""

    result: Mapping[str, Any]
    curve: list[tuple[int, float]]
    stages: list[tuple[int, float]]
    weights: bytes

    def check(self, trainings: Trainings, run: Run) -> None:
        assert run.state is RunState.DONE, run.error
        assert run.result["weights_sha256"] == self.result["weights_sha256"]
        assert run.result["metrics"] == self.result["metrics"]
        assert weights(run) == self.weights
        assert curve(trainings, run) == self.curve
        assert curve(trainings, run, "stage") == self.stages


def train_unbroken(trainings: Trainings, way: str) -> Unbroken:
    run = trainings.submit(way)
    trainings.begin(run)
    assert trainings.end() == 0
    ended = trainings.store.get(run.id)
    assert [step for step, _ in curve(trainings, ended)] == list(range(1, 25))
    stages = curve(trainings, ended, "stage")
    assert stages == ([(8, 1.0), (16, 2.0)] if way == "growing" else [])
    return Unbroken(ended.result, curve(trainings, ended), stages, weights(ended))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_random_moments(trainings, part, way):
    kills = -(-KILLS // (PARTS * len(WAYS)))
    chance = random.Random(f"{KILLS} {part}")
    unbroken = train_unbroken(trainings, way)
    died = inside = moved = finished = 0
    run = trainings.submit(way)
    while died < kills or (inside < 0.3 * kills and died < 2 * kills):
        updates, steps = trainings.mark(UPDATES), checkpoints(run)
        if kill_once(trainings, run, chance):
            died += 1
            inside += trainings.mark(IN_SAVE)
            moved += trainings.mark(UPDATES) > updates
        left = checkpoints(run)
        assert max(left, default=0) >= max(steps, default=0), "a finished checkpoint is never lost"

        trainings.watcher.tick(time.monotonic())
        now = trainings.store.get(run.id)
        if now.state is RunState.INTERRUPTED:
            assert "resume the run" in now.error
            trainings.store.resume(run.id)
        elif (
            now.state is not RunState.QUEUED
        ):  # it got through before the kill, or just after its end was written
            unbroken.check(trainings, now)
            finished += 1
            run = trainings.submit(way)
    trainings.begin(run)
    assert trainings.end() == 0
    unbroken.check(trainings, trainings.store.get(run.id))

    print(
        f"{died} kills, {inside} inside a save, {moved} after an update; {finished} runs got through"
    )
    assert moved >= 0.6 * died, "steps really ran between kills"
    assert inside >= 0.3 * kills, "kills really fell inside saves"
    assert finished >= died // 100, "killed runs came to their end"
    assert len(trainings.store.list()) == finished + 2, "no run was lost"
