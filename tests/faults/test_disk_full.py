"""A disk that is full at any one write of a training: the checkpoint before it loads, and the run goes on from it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.runs.verdict import is_disk_full
from hybridlab.tasks.fit import fit
from hybridlab.training import weights
from hybridlab.training.checkpoint import latest
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.result import CHECKPOINTS, TrainResult
from tests.faults.trainings import ARCHITECTURE, GROWS, SHORT

STAGES = [{"name": "small", "until": 3}, {"name": "large", "grow": {"stage": 1}}]
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "stages": {"stages": STAGES}, "taught": {}}
STEPS = 6
EVERY = int(os.environ.get("HYBRIDLAB_FULL_EVERY", "8"))
"""Which of the writes fail, one after the other; ``make faults`` takes every one, in all ways of training."""


class Disk:
    """Counts what is written below a folder, and is full at one of these writes; half of a file is left then."""

    def __init__(self, full_at: int | None) -> None:
        self.full_at, self.writes = full_at, 0

    def write(self, path: Path) -> None:
        """Note a write; raise where there is no room for it."""
        self.writes += 1
        if self.writes - 1 == self.full_at:
            if path.suffix and path.parent.is_dir() and not path.exists():
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
                    file.write(b"half of")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    @contextmanager
    def mounted(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let whatever writes go through here."""

        def through(call: Callable[..., Any], place: int) -> Callable[..., Any]:
            def called(*given: Any, **named: Any) -> Any:
                where = given[place]
                self.write(
                    Path(f"/proc/self/fd/{where}") if isinstance(where, int) else Path(where)
                )
                return call(*given, **named)

            return called

        with patch.context() as patched:
            patched.setattr(weights, "save_file", through(weights.save_file, 1))
            patched.setattr(os, "fsync", through(os.fsync, 0))
            for name in ("write_text", "write_bytes", "mkdir", "rename", "replace"):
                patched.setattr(Path, name, through(getattr(Path, name), 0))
            yield


def attempt(folder: Path, way: str, teacher: Path, *, resume: bool = False) -> TrainResult:
    torch.set_num_threads(1)
    more = dict(WAYS[way])
    if way == "taught":
        told = {"architecture": str(teacher / "a.yaml"), "weights": str(teacher / "w.safetensors")}
        more |= {"teacher": {**told, "hidden": {"weight": 0.1}}, "batch": 64}  # fewer, larger files
    settings = {"steps": STEPS, "checkpoint_every": 2, "eval_every": 3, **more}
    task, spec = prepare(SHORT | {"task": "digits_sequence", "task_params": {}} | settings)
    model = build(
        fit(loads(GROWS if way == "stages" else ARCHITECTURE), task), task.input_type(), seed=0
    )
    return train(model, task, spec, folder=folder, resume=resume)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    task, _ = prepare({"task": "digits_sequence"})
    model = build(fit(loads(ARCHITECTURE), task), task.input_type(), seed=1)
    weights.write_weights(model.state_dict(), folder / "w.safetensors")
    (folder / "a.yaml").write_text(ARCHITECTURE)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS if EVERY == 1 else ["plain"])
def test_full_at_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Path, way: str
) -> None:
    counted = Disk(None)
    with counted.mounted(monkeypatch):
        wanted = attempt(tmp_path / "whole", way, teacher)
    assert counted.writes >= 3 * 9, "three checkpoints of nine writes each"
    survived = 0
    for place in range(EVERY - 1, counted.writes, EVERY):
        folder, disk, seen = tmp_path / f"{place}", Disk(place), []
        with disk.mounted(monkeypatch):
            try:
                result = attempt(folder, way, teacher)
                survived += 1  # an old checkpoint stays; what the teacher says is asked anew
                assert result.weights_sha256 == wanted.weights_sha256
                continue
            except (RunError, OSError) as error:
                assert isinstance(error, RunError) and is_disk_full(error), repr(error)
                assert "free some space" in str(error)
        found = latest(folder / CHECKPOINTS)
        seen = sorted((folder / CHECKPOINTS).glob("step-*")) if folder.exists() else []
        assert (found is None) == (not seen), "what is there is whole"
        if found is not None:
            assert found.step == int(seen[-1].name[5:])
            assert found.model() and found.optimiser()
        result = attempt(folder, way, teacher, resume=True)
        assert result.weights_sha256 == wanted.weights_sha256
        assert result.metrics == wanted.metrics
        left = [path.name for path in (folder / CHECKPOINTS).iterdir()]
        assert all(name.startswith("step-") for name in left), left
        assert json.loads((folder / "result.json").read_text())["steps"] == STEPS
    assert survived <= counted.writes // 3 or way == "taught"
    print(
        f"{way}: {counted.writes} writes, full at every {EVERY}. of them; {survived} only cost time"
    )
