"""Options that several verbs take, and how they are read: settings of a training, numbers, files to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hybridlab.errors import Problem, SpecError

TrainTask = Annotated[
    str | None, typer.Option("--task", help="What it trains on; `hybridlab tasks` lists them.")
]
TrainFile = Annotated[
    str | None, typer.Option("--training", metavar="FILE", help="Settings in a YAML file.")
]
TrainBatch = Annotated[
    int | None, typer.Option("--batch", help="Samples per update; the task's own.")
]
TrainSeed = Annotated[
    int | None, typer.Option("--seed", help="Decides everything that chance decides.")
]
TrainDevice = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda:0 …")]
TrainSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting, or what a file holds: plan=@plan.json; may be repeated.",
    ),
]
Task = Annotated[
    str, typer.Option("--task", help="Whose batch it runs on; `hybridlab tasks` lists them.")
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, max=1 << 20, help="Samples in a batch; the task's own."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides weights and batch.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:0 …")]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds", min=7, max=1000, help="Turns that are timed; fewer where they take long."
    ),
]
ChoiceFile = Annotated[
    Path | None, typer.Option("--output", help="Write what was chosen here, as JSON.")
]


def training_settings(
    file: str | None, pairs: Sequence[str] | None, **named: Any
) -> dict[str, Any]:
    """Return a training's settings: those of ``--training``, over them ``--set``, over them options of their own.

    Raises:
        SpecError: the file cannot be read, or a pair is none.
    """
    from hybridlab.training.spec import read_settings

    return {**(read_settings(file) if file else {}), **read_pairs(pairs or ()), **given(**named)}


def given(**named: Any) -> dict[str, Any]:
    """Return what was given: everything that is not None."""
    return {name: value for name, value in named.items() if value is not None}


def read_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Read settings as ``name=value`` pairs; a value is read as in YAML, and a dot reaches into a mapping.

    ``@`` before a file's name stands for what it holds, such as what ``hybridlab plan --output`` wrote.

    Raises:
        SpecError: one of them has no name or no value, reaches into what is no mapping, or names a file that cannot be
            read.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from hybridlab.training.spec import read_settings

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError):
            value = read_settings(text[1:]) if text.startswith("@") else text
        outer, dot, inner = key.strip().partition(".")
        if not (equals and outer) or (dot and not inner):
            raise SpecError(Problem("--set", "is not a setting", "NAME=VALUE", repr(pair[:60])))
        if dot:
            within = settings.setdefault(outer, {})
            if not isinstance(within, dict):
                said = f"has a value already, which holds no {inner[:40]}"
                raise SpecError(
                    Problem(f"--set {outer[:40]}", said, "a mapping", repr(within)[:60])
                )
            within[inner] = value
        else:
            settings[outer] = value
    return settings


def read_numbers(option: str, text: str, example: str) -> list[int]:
    """Read whole numbers with commas between them.

    Raises:
        SpecError: there is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(
            Problem(option, "are not whole numbers", "numbers with commas", text[:80], example)
        ) from None


def read_bytes(option: str, text: str, example: str) -> int:
    """Read an amount of memory.

    Raises:
        SpecError: there is something else.
    """
    from hybridlab.units import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError:
        raise SpecError(
            Problem(option, "is not an amount of memory", "bytes with a unit", text[:80], example)
        ) from None
