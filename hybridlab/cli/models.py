"""Verbs about other people's models: import a description, shrink it, export code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.designs import TaskOption, fitted
from hybridlab.cli.output import File, Json, give, say, table
from hybridlab.errors import Problem, SpecError

if TYPE_CHECKING:
    from hybridlab.architecture.spec import Architecture

import_app = typer.Typer(help="Read other descriptions of models.", rich_markup_mode=None)
export_app = typer.Typer(help="Write an architecture in other forms.", rich_markup_mode=None)

Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")]


@import_app.callback(invoke_without_command=True)
def importers(context: typer.Context, json: Json = False) -> None:
    """List what can be imported; with a verb, import."""
    if context.invoked_subcommand is not None:
        return
    from hybridlab.architecture.importers.huggingface import families
    from hybridlab.architecture.importers.megatron import LETTERS

    known = families()
    if json:
        letters = {letter: component for letter, (component, _) in LETTERS.items()}
        give({"hf": list(known), "megatron": letters})
    else:
        rows = [("hf", name, found.source) for name, found in known.items()]
        rows += [("megatron", letter, words) for letter, (_, words) in LETTERS.items()]
        table("", ("importer", "reads", "what it is"), rows)


@import_app.command("hf")
def import_hf(
    file: Annotated[str, typer.Argument(metavar="CONFIG", help="A config.json, or its folder.")],
    output: Output,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="FIELD", help="Read as if it were not there; repeats."),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a Hugging Face config.json into an architecture; nothing is downloaded and no code is run."""
    from hybridlab.architecture.importers.huggingface import read_file

    path = Path(file)
    found = read_file(path / "config.json" if path.is_dir() else path, ignore or ())
    _write(found.architecture, output, found.notes, json)


@import_app.command("megatron")
def import_megatron(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A letter a layer, such as M-M*-M-E.")
    ],
    output: Output,
    width: Annotated[int, typer.Option(min=1, max=65_536, help="Features of a position.")] = 64,
    heads: Annotated[int | None, typer.Option(help="Heads of every mixer that has some.")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Key and value heads.")] = None,
    state: Annotated[int | None, typer.Option(help="State per feature of Mamba-2.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Hidden features, times the width.")] = None,
    experts: Annotated[int | None, typer.Option(help="Experts of a mixture.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Experts that work on a position.")] = None,
    vocab: Annotated[
        int | None, typer.Option(min=1, help="Vocabulary; without it the task has input and head.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call it.")] = "megatron-hybrid",
    json: Json = False,
) -> None:
    """Turn a hybrid layer pattern, as Megatron-LM writes it, into an architecture."""
    from hybridlab.architecture.importers.megatron import read

    sizes = {
        "heads": heads,
        "kv_heads": kv_heads,
        "state": state,
        "ratio": ratio,
        "experts": experts,
        "top_k": top_k,
    }
    given = {key: value for key, value in sizes.items() if value is not None}
    architecture, notes = read(pattern, width=width, sizes=given, vocab=vocab, name=name)
    _write(architecture, output, notes, json)


def shrink(
    file: File,
    output: Output,
    width: Annotated[int, typer.Option(min=8, max=65_536, help="Features of a position.")] = 64,
    repeat: Annotated[int, typer.Option(min=1, help="Most repeats of a group.")] = 2,
    heads: Annotated[int, typer.Option(min=1, help="Most heads.")] = 4,
    state: Annotated[int, typer.Option(min=1, help="Largest state per feature.")] = 16,
    experts: Annotated[int, typer.Option(min=1, help="Most experts.")] = 4,
    window: Annotated[int, typer.Option(min=1, help="Longest window of attention.")] = 64,
    json: Json = False,
) -> None:
    """Write the same pattern at a size that trains here; input and head are left to the task."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.architecture.shrink import Sizes
    from hybridlab.architecture.shrink import shrink as smaller

    sizes = Sizes(
        width=width, repeat=repeat, heads=heads, state=state, experts=experts, window=window
    )
    _write(smaller(open_architecture(file), sizes), output, (), json)


@export_app.callback(invoke_without_command=True)
def exporters(context: typer.Context, json: Json = False) -> None:
    """List what an architecture can be written as; with a verb, write it."""
    if context.invoked_subcommand is not None:
        return
    forms = {"pytorch": "one Python file that needs nothing but torch"}
    if json:
        give(forms)
    else:
        table("", ("form", "what it is"), list(forms.items()))


@export_app.command("pytorch")
def export_pytorch(file: File, output: Output, task: TaskOption = None, json: Json = False) -> None:
    """Write one readable Python file that runs without HybridLab and takes the same weights."""
    from hybridlab.architecture.exporters.pytorch import source_of
    from hybridlab.architecture.library import open_architecture

    text = source_of(*fitted(open_architecture(file), task))
    _write_text(output, text)
    if json:
        give({"path": str(output), "lines": text.count("\n")})
    else:
        print(f"wrote {output}: {text.count(chr(10)):,} lines")


def _write(architecture: Architecture, output: Path, notes: Sequence[str], json: bool) -> None:
    """Write an architecture and tell what it is."""
    from hybridlab.architecture.counting import count_parameters
    from hybridlab.architecture.document import dump

    params = count_parameters(architecture)
    _write_text(output, dump(architecture))
    for note in notes:
        say(f"note: {note}")
    if json:
        give(
            {
                "params": params,
                "architecture": str(output),
                "name": architecture.name,
                "fingerprint": architecture.fingerprint,
                "notes": list(notes),
            }
        )
    else:
        print(f"wrote {output}: {architecture.name}, {params:,} parameters")


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem(str(path), f"cannot be written: {reason}")) from None


VERBS: dict[str, Callable[..., Any]] = {"shrink": shrink}
