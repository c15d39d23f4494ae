"""Verbs that train: one architecture on one task, and the demonstration of why hybrids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hybridlab.cli.output import File, Json, give, say, table
from hybridlab.errors import Problem, SpecError
from hybridlab.units import format_seconds


def train(
    file: File,
    task: Annotated[
        str | None, typer.Option(help="What to train on; `hybridlab tasks` lists them.")
    ] = None,
    training: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settings in a YAML file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the weights.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak step size of AdamW.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides everything that chance decides.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda:0 …")] = None,
    threads: Annotated[int | None, typer.Option(help="Cores that the run holds.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
    ] = None,
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
    from hybridlab.training.spec import read_settings
    from hybridlab.workflows.alone import start_alone
    from hybridlab.workflows.launch import start_training

    path = find(file)
    check_file(path)
    named = {
        "task": task,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
        "device": device,
    }
    settings = {
        **(read_settings(training) if training else {}),
        **read_pairs(setting or []),
        **{key: value for key, value in named.items() if value is not None},
    }
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


def read_pairs(given: Sequence[str]) -> dict[str, Any]:
    """Read settings as ``name=value`` pairs; a value is read as in YAML, and a dot reaches into a mapping.

    Raises:
        SpecError: one of them has no name or no value.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    settings: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError):
            value = text
        outer, dot, inner = key.strip().partition(".")
        if not (equals and outer) or (dot and not inner):
            raise SpecError(Problem("--set", "is not a setting", "NAME=VALUE", repr(pair[:60])))
        if dot:
            settings.setdefault(outer, {})[inner] = value
        else:
            settings[outer] = value
    return settings


VERBS: dict[str, Callable[..., Any]] = {"train": train, "demo": demo}
