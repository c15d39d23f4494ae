"""Steps until a small network recalls 16 pairs, with and without stages from easy to hard: a setting for comparisons.

Each key is asked for once, as in https://arxiv.org/abs/2312.04927, which leaves a long plateau; the stages ask for
fewer pairs, more often. It is no benchmark of its own: ``steps_to_target`` is there for one that compares ways of
training, and ``python -c "from benchmarks.curriculum_recall import main; main()" --seeds 1`` prints a line for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train

DESIGNS = {
    "attention": "{use: attention, heads: 2}, {use: attention, heads: 2}",
    "hybrid": "{use: mamba2, state: 16, heads: 2}, {use: attention, heads: 2}",
}
HARD = {"pairs": 16, "asks": 1, "vocab": 128, "length": 64}
WAYS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "staged": [
        {"name": "4 pairs", "task_params": {"pairs": 4, "asks": 8, "length": 32}},
        {"name": "8 pairs", "task_params": {"pairs": 8, "asks": 8, "length": 64}},
        {"name": "16 pairs"},
    ],
    "fewer pairs": [
        {"name": "4 pairs", "task_params": {"pairs": 4}},
        {"name": "8 pairs", "task_params": {"pairs": 8}},
        {"name": "16 pairs"},
    ],
}
"""No stages; easier in all respects; and, to tell these apart, fewer pairs alone."""
TARGET = 0.95


def settings(way: str, seed: int, steps: int) -> dict[str, Any]:
    """Return the settings of a training; a stage ends once 9 of 10 answers are right, at the latest after 600 steps."""
    until = {"steps": min(600, (steps - 1) // 2), "train_accuracy": 0.9, "window": 20}
    stages = [
        stage if place == len(WAYS[way]) - 1 else {**stage, "until": until}
        for place, stage in enumerate(WAYS[way])
    ]
    return {
        "task": "mqar",
        "task_params": HARD,
        "steps": steps,
        "batch": 32,
        "learning_rate": 3e-3,
        "schedule": "constant",
        "warmup_steps": 50,
        "target": TARGET,
        "eval_every": 50,
        "checkpoint_every": steps,
        "component_metrics_every": 0,
        "seed": seed,
        "device": "cpu",
        "stages": stages,
    }


def steps_to_target(design: str, way: str, seed: int, steps: int) -> dict[str, Any]:
    """Train once; return after how many steps validation reached the target (None: never), and where stages began."""
    task, spec = prepare(settings(way, seed, steps))
    text = f"name: {design}\nwidth: 32\nnodes: [{DESIGNS[design]}]\n"
    model = build(fit(loads(text), task), task.input_type(), seed=seed)
    reached: list[int] = []
    borders: list[int] = []

    def note(step: int, metrics: dict[str, float]) -> None:
        if metrics.get("val_accuracy", 0.0) >= TARGET:
            reached.append(step)
        if "stage" in metrics:
            borders.append(step)

    with tempfile.TemporaryDirectory() as folder:
        result = train(model, task, spec, folder=Path(folder), on_metrics=note)
    return {
        "design": design,
        "way": way,
        "seed": seed,
        "reached": reached[0] if reached else None,
        "borders": borders,
        "val_accuracy": round(result.metrics["val_accuracy"], 4),
        "seconds": round(result.seconds, 1),
    }


def main() -> None:
    """Train every design in every way with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for design in given.designs:
        for seed in range(given.seeds):
            for way in given.ways:
                print(json.dumps(steps_to_target(design, way, seed, given.steps)), flush=True)
