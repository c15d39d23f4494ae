"""A small hybrid, stages of every kind for it, and a training that can be killed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit, task
from hybridlab.training.loop import train
from hybridlab.training.result import TrainResult
from hybridlab.training.spec import TrainSpec, make

HARD = {"pairs": 4, "length": 16, "vocab": 16}
DESIGN = """
name: hybrid
width: 8
nodes:
  - id: stage
    repeat: 1
    nodes:
      - {use: attention, heads: 2}
      - {use: moe, experts: 3, top_k: 1}
  - {id: a, use: attention, heads: 2}
  - {id: s, use: mamba2, heads: 2, state: 4, inputs: [stage]}
  - {id: join, use: gated_sum, inputs: [a, s]}
"""
EASY = {"name": "easy", "until": 4, "task_params": {"pairs": 1, "length": 8}}
WAYS: dict[str, list[dict[str, Any]]] = {
    "task": [EASY, {"name": "middle", "until": 4, "task_params": {"pairs": 2}}, {"name": "hard"}],
    "competence": [
        {**EASY, "until": {"steps": 7, "train_loss": 2.7, "train_accuracy": 0.0, "window": 3}},
        {"name": "middle", "until": {"steps": 5, "metric": 0.0, "metric_of": "stage"}},
        {"name": "hard"},
    ],
    "growth": [
        {"name": "small", "until": 4},
        {"name": "larger", "until": 4, "grow": {"stage": 1}},
        {"name": "large", "grow": {"stage": 2}, "new_repeats": "drawn"},
    ],
    "frozen": [
        {"name": "a", "until": 4, "freeze": "stage.*"},
        {"name": "b", "until": 4, "unfreeze": "stage.*", "freeze": "s", "grow": {"stage": 1}},
        {"name": "c", "unfreeze": "s"},
    ],
    "gates": [
        {"name": "a", "until": 5, "experts": 1},
        {"name": "b", "until": 4, "open": {"s": 6}, "experts": 2},
        {"name": "c", "open": {"stage.attention": 30}},
    ],
}
GROUPS: dict[str, tuple[dict[str, Any], ...]] = {
    "adamw": (),
    "muon": ({"name": "m", "kind": "token_mixer", "optimiser": "muon"},),
    "free": ({"name": "f", "optimiser": "schedule_free"},),
}


@functools.cache
def fitted(text: str) -> Architecture:
    return fit(loads(text), task("mqar", **HARD))


def staged(stages: list[dict[str, Any]], **changes: Any) -> TrainSpec:
    base = {
        "task": "mqar",
        "task_params": HARD,
        "steps": 14,
        "batch": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "eval_every": 2,
        "checkpoint_every": 3,
        "device": "cpu",
        "stages": stages,
    }
    return make(changes, base)


def hybrid(what: Task, text: str = DESIGN) -> GraphModel:
    return build(fitted(text), what.input_type(), seed=0)


class Killed(Exception):  # noqa: N818  (it is no error: the process is gone)
    """Stands for kill -9: nothing after it runs."""


def trained(
    what: Task, spec: TrainSpec, folder: Path, die_after: int = 0, **more: Any
) -> tuple[TrainResult | None, list[tuple[int, str, float]], GraphModel]:
    points: list[tuple[int, str, float]] = []
    model = hybrid(what)

    def stepped(step: int) -> None:
        if step == die_after:
            raise Killed

    def note(step: int, values: dict[str, float]) -> None:
        points.extend((step, name, value) for name, value in values.items())

    try:
        result = train(model, what, spec, folder=folder, on_metrics=note, on_step=stepped, **more)
    except Killed:
        return None, points, model
    return result, [point for point in points if point[1] != "samples_per_s"], model


def borders_in(points: list[tuple[int, str, float]]) -> list[tuple[int, float]]:
    return [(step, value) for step, name, value in points if name == "stage"]
