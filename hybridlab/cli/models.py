"""Verbs about other people's models: import a description, shrink it, export code or weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.designs import TaskOption, fitted
from hybridlab.cli.output import File, Json, give, say, table, write_text
from hybridlab.errors import HybridLabError
from hybridlab.units import format_bytes

if TYPE_CHECKING:
    from hybridlab.architecture.model import GraphModel
    from hybridlab.architecture.spec import Architecture

import_app = typer.Typer(help="Read other descriptions of models.", rich_markup_mode=None)
export_app = typer.Typer(help="Write an architecture in other forms.", rich_markup_mode=None)

Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")]
Optional = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="A YAML file, a preset, or a saved design; or --run."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Safetensors that a run or import wrote, or a published model's folder.",
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="Take this run's weights, task and architecture."),
]


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
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="OUT",
            help="Write the weights of the folder's safetensors here, for export and in Python.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a Hugging Face config.json into an architecture; nothing is downloaded and no code is run."""
    from hybridlab.architecture.importers.huggingface import read_file

    path = Path(file)
    config = path / "config.json" if path.is_dir() else path
    found = read_file(config, ignore or ())
    if weights is not None:
        from hybridlab.workflows.weighted import write_published

        size = write_published(found, config.parent, weights)
        say(f"wrote {weights}: {format_bytes(size)}")
    _write(found.architecture, output, found.notes, json)
    if weights is not None:
        _offer(output, weights)


def _offer(architecture: Path, weights: Path) -> None:
    """Note the weights where the Train page finds who may teach; an import is none the worse where that fails."""
    from hybridlab.training.imported import note

    try:
        note(architecture, weights)
    except HybridLabError as error:
        say(f"not offered as a teacher on the Train page: {error}")


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
    forms = {
        "hf": "a folder that transformers opens, where the pattern is a published family's",
        "onnx": "one graph that onnxruntime runs, weights inside",
        "pytorch": "one Python file that needs nothing but torch",
    }
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
    write_text(output, text)
    if json:
        give({"path": str(output), "lines": text.count("\n")})
    else:
        print(f"wrote {output}: {text.count(chr(10)):,} lines")


@export_app.command("onnx")
def export_onnx(
    output: Output,
    file: Optional = None,
    weights: WeightsOption = None,
    run: RunOption = None,
    task: TaskOption = None,
    batch: Annotated[int, typer.Option(min=2, help="Samples that are traced.")] = 2,
    length: Annotated[
        int,
        typer.Option(min=2, help="Positions that are traced; of every call, where it is fixed."),
    ] = 32,
    json: Json = False,
) -> None:
    """Write one ONNX graph with the weights inside, and hold it against the model in onnxruntime."""
    from hybridlab.architecture.exporters.onnx import NOT_CHECKED, write_onnx

    made = write_onnx(_model(file, weights, run, task), output, batch=batch, length=length)
    if json:
        give(
            {
                "file": str(output),
                "params": made.params,
                "opset": made.opset,
                "dynamic": list(made.dynamic),
                "by_steps": list(made.by_steps),
                "fixed": list(made.fixed),
                "length": made.length,
                "checked": made.checked,
                "largest_difference": made.largest_difference,
            }
        )
        return
    sizes = f"any {' and '.join(made.dynamic)}" if made.dynamic else "fixed sizes"
    print(f"wrote {output}: {made.params:,} parameters, opset {made.opset}, {sizes}")
    if made.fixed:
        print(f"length {made.length} alone, because of {', '.join(made.fixed)}")
    if made.by_steps:
        print(f"position by position: {', '.join(made.by_steps)}")
    apart = made.largest_difference
    print(NOT_CHECKED if apart is None else f"onnxruntime computes the same, within {apart:.2g}")


@export_app.command("hf")
def export_hf(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to make.")
    ],
    file: Optional = None,
    weights: WeightsOption = None,
    run: RunOption = None,
    task: TaskOption = None,
    family: Annotated[
        str | None,
        typer.Option(help="The model_type; without it the one that it came from, or that fits."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Keep this config.json's token ids and multipliers."),
    ] = None,
    json: Json = False,
) -> None:
    """Write config.json and model.safetensors for transformers, where the pattern is a published family's."""
    from hybridlab.architecture.exporters.huggingface import NOT_CHECKED, write_folder
    from hybridlab.architecture.importers.huggingface import content_of

    content = None if like is None else content_of(like)
    model = _model(file, weights, run, task)
    made = write_folder(model, output, family=family, like=content)
    if json:
        give(
            {
                "folder": str(output),
                "family": made.family,
                "params": made.params,
                "checked": made.checked,
                "largest_difference": made.largest_difference,
            }
        )
    else:
        print(f"wrote {output}: {made.family}, {made.params:,} parameters")
        apart = made.largest_difference
        same = f"transformers computes the same logits, within {apart or 0:.2g}"
        print(NOT_CHECKED if apart is None else same)


def _model(file: str | None, weights: Path | None, run: str | None, task: str | None) -> GraphModel:
    """Return the model of a file or a run, with its weights."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.cli.runs import whole_id
    from hybridlab.workflows.weighted import weighted

    if weights is None and run is None:
        say("note: without --weights or --run, weights are those that a training starts from")
    return weighted(
        None if file is None else open_architecture(file),
        weights=weights,
        run=None if run is None else whole_id(run),
        task=task,
    )


def _write(architecture: Architecture, output: Path, notes: Sequence[str], json: bool) -> None:
    """Write an architecture and tell what it is."""
    from hybridlab.architecture.counting import count_parameters
    from hybridlab.architecture.document import dump

    params = count_parameters(architecture)
    write_text(output, dump(architecture))
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


VERBS: dict[str, Callable[..., Any]] = {"shrink": shrink}
