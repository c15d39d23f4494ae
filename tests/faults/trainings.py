"""Real trainings in forked workers, which tests kill or ask to stop, and what an undisturbed one comes to."""

import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridlab.places import sample_configs
from hybridlab.runs import supervisor
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.slots import Capacity
from hybridlab.runs.store import open_store
from hybridlab.training import checkpoint
from hybridlab.training.spec import read_settings

ZYGOTE = Path(__file__).parent / "zygote.py"
IN_SAVE, SAVE_NS, UPDATES = 0, 8, 16
STEPS = 24
SHORT: dict[str, Any] = {
    "task": "parity",
    "task_params": {"length": 8, "longer": 12},
    "steps": STEPS,
    "batch": 8,
    "warmup_steps": 5,
    "eval_every": 8,
    "checkpoint_every": 1,
    "keep_checkpoints": 2,
    "device": "cpu",
    "seed": 3,
}
GROWS = (
    "name: grows\nwidth: 16\nnodes:\n"
    "  - {id: stage, nodes: [{use: attention, heads: 2}, {use: swiglu}]}\n  - {use: lstm}\n"
)
STRATEGIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rates": {
        "groups": [
            {"name": "recurrent", "use": "lstm", "rate": 0.3, "optimiser": "lion"},
            {"name": "matrices", "use": "attention", "optimiser": "muon", "warmup_steps": 9},
            {"name": "rest", "use": "swiglu", "optimiser": "adafactor", "clip_norm": 0.5},
        ]
    },
    "stages": {
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
    "several": {
        "task": "digits_sequence",
        "task_params": {},
        "tasks": {
            "of": [{"task": "digits_sequence"}, {"task": "digits_parity"}],
            "sampling": "joint",
            "balancing": "gradnorm",
        },
    },
    "taught": {
        "teacher": {
            "hidden": {"weight": 0.1},
            "phases": [{"losses": ["hidden"], "steps": 9}, {"losses": ["logits", "hard"]}],
        }
    },
    "averages": {"groups": [{"name": "all", "optimiser": "schedule_free"}]},
    "accumulated": {"accumulation": 2, "component_metrics_every": 5, "residual_init": "zero"},
}
"""The ways of training; each is killed as often as the others."""
BORDERS = {"stages": [(8, 1.0), (16, 2.0)], "taught": [(9, 1.0)]}
"""After which steps stages or phases begin, so that kills fall into all of them and on their borders."""
FILES = {path.stem: path for path in sorted((sample_configs() / "training").glob("*.yaml"))}
"""Every file of settings that there is, made short, is a way of training too where there are kills enough."""
ARCHITECTURE = (
    "name: mini\nwidth: 16\nnodes:\n"
    "  - {use: lstm}\n  - {use: attention, heads: 2}\n  - {use: swiglu}\n"
)


OF_FILES = (
    "name: mini\nwidth: 16\nnodes:\n"
    "  - {id: stage, nodes: [{use: mamba2, heads: 2, head_dim: 8, state: 4}, {use: swiglu}]}\n"
    "  - {use: attention, heads: 2}\n"
)
"""What the files' settings are for: a group that can grow, state-space rates, and matrices of mixers."""
ATTENTION = "name: mini\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n  - {use: attention, heads: 2}\n"


def ways(count: int, each: int, few: int) -> list[str]:
    """Return the ways of training for so many faults: the plain one, all, or the files of settings too."""
    if count >= each * (len(STRATEGIES) + len(FILES)):
        return [*STRATEGIES, *FILES]
    return list(STRATEGIES) if count >= few else ["plain"]


def short(name: str) -> dict[str, Any]:
    """Return the settings of a file, of as many steps as all trainings here; their stages and phases have eight."""
    settings = read_settings(FILES[name])
    params = {"length": 32} if "length" in settings.get("task_params", {}) else {}
    made = settings | {key: value for key, value in SHORT.items() if not key.startswith("task")}
    made["task_params"] = {**settings.get("task_params", {}), **params}
    if stages := settings.get("stages"):
        made["stages"] = [*map(_eight_steps, stages[:-1]), stages[-1]]
    if teacher := settings.get("teacher"):
        phases = teacher.get("phases", ())
        eight = [phase | ({"steps": 8} if "steps" in phase else {}) for phase in phases]
        made["teacher"] = {**teacher, "phases": eight}
    if tasks := settings.get("tasks"):
        parts = [
            {**one, "task_params": {**one.get("task_params", {}), **params}} for one in tasks["of"]
        ]
        made["tasks"] = {**tasks, "of": parts}
    return made


def _eight_steps(stage: dict[str, Any]) -> dict[str, Any]:
    until = stage["until"]
    return {**stage, "until": {**until, "steps": 8} if isinstance(until, dict) else 8}


def borders(strategy: str) -> list[tuple[int, float]]:
    """Return after which steps stages or phases of a way of training begin."""
    if strategy not in FILES:
        return BORDERS.get(strategy, [])
    made = short(strategy)
    count = max(len(made.get("stages", ())), len(made.get("teacher", {}).get("phases", ())))
    return [(8 * place, float(place)) for place in range(1, count)]


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

    def submit(self, strategy: str = "plain") -> Run:
        if strategy in FILES:
            training, text, theirs = short(strategy), OF_FILES, ATTENTION
        else:
            training, theirs = SHORT | STRATEGIES[strategy], ARCHITECTURE
            text = GROWS if strategy == "stages" else ARCHITECTURE
        if "teacher" in training:
            run = self._teacher(theirs, training)
            training["teacher"] = {**training["teacher"], "run": run}
        spec = {"architecture": text, "training": training, "preset": None}
        return self.store.create("train", "kill me", spec, home=home_id())

    def _teacher(self, text: str, training: Mapping[str, Any]) -> str:
        """Return the id of a finished plain run on the same task, trained when it is first asked for."""
        done = [run for run in self.store.list() if run.name == "teacher"]
        if not done:
            task = {key: training[key] for key in ("task", "task_params")}
            spec = {"architecture": text, "training": SHORT | task, "preset": None}
            done = [self.store.create("train", "teacher", spec, home=home_id())]
            self.begin(done[0])
            assert self.end() == 0
        return done[0].id

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


def train_unbroken(trainings: Trainings, strategy: str = "plain") -> Unbroken:
    run = trainings.submit(strategy)
    trainings.begin(run)
    assert trainings.end() == 0
    ended = trainings.store.get(run.id)
    assert [step for step, _ in curve(trainings, ended)] == list(range(1, STEPS + 1))
    stages = curve(trainings, ended, "stage")
    assert stages == borders(strategy)
    return Unbroken(ended.result, curve(trainings, ended), stages, weights(ended))
