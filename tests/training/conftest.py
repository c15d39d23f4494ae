"""Small models and tasks that train in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import new_id
from hybridlab.tasks import mqar as tasks_mqar
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training.loop import train
from hybridlab.training.spec import TrainSpec, make

Tiny = Callable[..., GraphModel]


def after(updates: int, wish: str) -> dict[str, Callable[..., Any]]:
    """Return the arguments of ``train`` with which somebody wishes that it stops after so many updates."""
    made: list[int] = []
    return {
        "on_step": made.append,
        "should_stop": lambda: wish if len(made) == updates else None,
    }


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def parity() -> Task:
    return task("parity", length=8, longer=12)


@pytest.fixture
def mqar(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Return the task, scored on a few samples."""
    monkeypatch.setattr(tasks_mqar, "_EVALUATION_BATCH", 8)
    monkeypatch.setattr(tasks_mqar, "_EVALUATION_BATCHES", {"val": 1, "test": 1})
    return task("mqar", pairs=4, length=16, vocab=16)


@pytest.fixture
def tiny() -> Tiny:
    """Build a model of the given nodes, 8 wide, for a task."""

    def made(what: Task, *nodes: str, seed: int = 0, width: int = 8) -> GraphModel:
        body = "".join(f"  - {{{node}}}\n" for node in nodes or ("use: lstm",))
        fitted = fit(loads(f"name: tiny\nwidth: {width}\nnodes:\n{body}"), what)
        return build(fitted, what.input_type(), seed=seed)

    return made


@pytest.fixture
def settings() -> Callable[..., TrainSpec]:
    """Return a short training on the tiny parity, with anything else as given."""

    def made(**changes: Any) -> TrainSpec:
        base = {
            "task": "parity",
            "task_params": {"length": 8, "longer": 12},
            "steps": 12,
            "batch": 6,
            "learning_rate": 1e-2,
            "warmup_steps": 3,
            "eval_every": 5,
            "checkpoint_every": 4,
            "device": "cpu",
        }
        return make(changes, base)

    return made


Finished = Callable[..., str]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """Train a small network in a home of its own and leave it there as a finished run; return its id."""
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))

    def made(
        what: Task, *nodes: str, name: str = "tiny", width: int = 8, steps: int = 2, **changes: Any
    ) -> str:
        run = new_id()
        folder = run_folder(run)
        folder.mkdir(parents=True)
        body = "".join(f"  - {{{node}}}\n" for node in nodes or ("use: lstm",))
        text = f"name: {name}\nwidth: {width}\nnodes:\n{body}"
        spec = make(
            {
                "task": what.name,
                "task_params": what.params.model_dump(),
                "steps": steps,
                "batch": 8,
                "eval_every": steps,
                "warmup_steps": 0,
                "device": "cpu",
                **changes,
            }
        )
        model = build(fit(loads(text), what), what.input_type(), seed=7)
        train(model, what, spec, folder=folder)
        (folder / "architecture.yaml").write_text(text)
        (folder / "training.json").write_text(spec.model_dump_json())
        return run

    return made


class Noisy(nn.Module):
    """A model with dropout behind it, so that it draws random numbers while training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dropout(self.inner(x))
        return result
