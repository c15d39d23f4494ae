"""Verbs about data of one's own: add a file, list what is kept, and show a task's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say, table
from hybridlab.errors import Problem, TaskError

if TYPE_CHECKING:
    from hybridlab.tasks.own.keeping import Kept

app = typer.Typer(help="Learn from files of your own.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def data(context: typer.Context, json: Json = False) -> None:
    """Learn from files of your own; name a verb."""
    if context.invoked_subcommand is not None:
        return
    if json:
        give({"verbs": ["add", "list", "remove"]})
    else:
        typer.echo(context.get_help())


@app.command("add")
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, CSV, Parquet or npz, up to 64 MiB.")
    ],
    label: Annotated[
        str | None, typer.Option(help="Column or array with the answers; guessed if left out.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Column or array to read; may be repeated, in order."),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--as", help="text, rows or arrays; guessed if left out.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="series or image, for arrays; guessed if left out.")
    ] = None,
    answers: Annotated[
        str | None, typer.Option(help="classes or numbers; guessed from the label if left out.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="What numbers are counted in, such as kg.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell how the file would be taken.")
    ] = False,
    json: Json = False,
) -> None:
    """Keep a file as a task: how it is taken is guessed and told, and options correct the guess."""
    from hybridlab.tasks.own import keeping

    given = {"label": label, "inputs": inputs or None, "form": form, "shape": shape}
    given |= {"answers": answers, "unit": unit}
    changes = {key: value for key, value in given.items() if value is not None}
    content = _content(file)
    if dry_run:
        guess = keeping.look(content, file.name, changes).as_dict()
        if json:
            give(guess)
        else:
            _print_guess(guess)
        return
    made = keeping.add(content, file.name, changes)
    for note in made.notes:
        say(f"note: {note}")
    if json:
        give(made.as_dict())
    else:
        facts(_facts(made))


@app.command("list")
def list_data(json: Json = False) -> None:
    """List the data that is kept in the HybridLab folder."""
    from hybridlab.tasks.own.keeping import kept

    found = kept()
    if json:
        give([one.as_dict() for one in found])
        return
    rows = [
        (one.id, one.name, one.task, str(one.sizes["train"]), ", ".join(_answers(one)[:6]))
        for one in found
    ]
    table("", ("id", "file", "task", "to train", "answers"), rows, numbers=("to train",))


@app.command("remove")
def remove(
    data: Annotated[str, typer.Argument(metavar="ID", help="As `hybridlab data list` tells it.")],
    json: Json = False,
) -> None:
    """Delete kept data for good; runs that learnt from it keep their results but cannot be resumed."""
    from hybridlab.tasks.own import keeping

    users = keeping.remove(data)
    if json:
        give({"removed": data, "runs": [run.id for run in users]})
        return
    say(f"removed {data}")
    if users:
        say(f"{len(users)} runs learnt from it; they keep their results but cannot be resumed")


def _content(file: Path) -> bytes:
    from hybridlab.tasks.own.reading import MAX_BYTES

    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TaskError(Problem(str(file), f"cannot be read: {reason}")) from None


def _answers(made: Kept) -> list[str]:
    """Return the classes of data, or what its numbers are counted in; nothing for text."""
    if made.task == "own_numbers":
        return [f"numbers in {made.schema.unit}" if made.schema.unit else "numbers"]
    return list(made.classes)


def _facts(made: Kept) -> list[tuple[str, str]]:
    unit = "bytes" if made.task == "own_text" else "samples"
    sizes = ", ".join(f"{split} {count:,}" for split, count in made.sizes.items())
    lines = [("id", made.id), ("file", made.name), (unit, sizes)]
    if made.task != "own_text":
        lines += [
            ("label", made.schema.label),
            ("inputs", ", ".join(made.schema.inputs)[:200]),
            ("a sample", f"{made.schema.shape} {' x '.join(map(str, made.shape))}"),
            ("answers", ", ".join(_answers(made))[:200]),
        ]
    train = f"hybridlab train ARCHITECTURE --task {made.task} --set task_params.data={made.id}"
    return [*lines, ("train on it", train)]


def _print_guess(guess: dict[str, Any]) -> None:
    for note in guess["notes"]:
        say(f"note: {note}")
    facts([(key, str(value)) for key, value in guess["schema"].items()])
    if guess["columns"]:
        names = tuple(guess["columns"][0])
        table("", names, [[str(column[key]) for key in names] for column in guess["columns"]])
