"""Verbs that train: one architecture on one task, and the demonstration of why hybrids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from hybridlab.cli.options import (
    TrainBatch,
    TrainDevice,
    TrainFile,
    TrainSeed,
    TrainSet,
    TrainTask,
    training_settings,
)
from hybridlab.cli.output import File, Json, give, say, table
from hybridlab.errors import Problem, SpecError
from hybridlab.units import format_seconds


def train(
    file: File,
    task: TrainTask = None,
    training: TrainFile = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the weights.")] = None,
    batch: TrainBatch = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak step size of AdamW.")] = None,
    seed: TrainSeed = None,
    device: TrainDevice = None,
    threads: Annotated[int | None, typer.Option(help="Cores that the run holds.")] = None,
    setting: TrainSet = None,
    name: Annotated[str, typer.Option(help="What to call the run.")] = "",
    also_alone: Annotated[
        bool, typer.Option("--also-alone", help="Train a student without its teacher too.")
    ] = False,
    json: Json = False,
) -> int:
    """Train an architecture on a task and follow it; Ctrl-C stops it with a checkpoint to resume from."""
    from hybridlab.architecture.library import find, presets
    from hybridlab.architecture.library import open_architecture as check_file
    from hybridlab.cli.follow import finish, follow
    from hybridlab.runs.launcher import cancel
    from hybridlab.runs.record import RunState
    from hybridlab.workflows.alone import start_alone
    from hybridlab.workflows.launch import start_training

    path = find(file)
    check_file(path)
    settings = training_settings(
        training,
        setting,
        task=task,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
    )
    if not settings.get("task"):
        raise SpecError(
            Problem(
                "--task", "is missing", "the name of a task", fix="`hybridlab tasks` lists them"
            )
        )
    if also_alone and not settings.get("teacher"):
        raise SpecError(
            Problem(
                "--also-alone",
                "there is no teacher",
                "a teacher in the settings",
                fix="leave it out",
            )
        )
    shipped = {entry.path: entry.name for entry in presets()}
    run = start_training(
        path.read_text(encoding="utf-8"),
        settings,
        name=name,
        preset=shipped.get(path),
        threads=threads,
    )
    twin = start_alone(run) if also_alone else None
    run = follow(run)
    if twin is not None and run.state is RunState.DONE:
        follow(twin)
    elif twin is not None:
        cancel(twin.id)
    return finish(run, json)


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that chance decides.")] = 0,
    json: Json = False,
) -> int:
    """See why hybrids: train a hybrid and its two parents on two tasks, and compare them."""
    from hybridlab.workflows.demo import demo as demonstrate

    told: dict[tuple[str, str], str] = {}

    def tell(summary: Mapping[str, Any]) -> None:
        for task, captions in summary["captions"].items():
            for model, caption in captions.items():
                # Steps move all the time; a line is worth the beginning and the end.
                text = "trains" if caption.startswith("step ") else caption
                if told.get((task, model)) != text:
                    told[task, model] = text
                    say(f"{task}, {model}: {text}")

    found = demonstrate(seed, tell)
    if json:
        give(found)
    else:
        models = list(next(iter(found["tasks"].values())))
        rows = [
            (task, *(found["captions"][task][model] for model in models)) for task in found["tasks"]
        ]
        table(
            f"Why hybrids, seed {seed}, {format_seconds(found['seconds'])}", ("task", *models), rows
        )
    return 0 if found["done"] else 1


VERBS: dict[str, Callable[..., Any]] = {"train": train, "demo": demo}
