"""Verbs about architectures: what there is, whether a file is right, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import File, Json, facts, give, say, say_errors, table
from hybridlab.errors import SpecError, TaskError

if TYPE_CHECKING:
    from hybridlab.architecture.spec import Architecture
    from hybridlab.components.types import TensorType
    from hybridlab.trace.predict import Prediction

TaskOption = Annotated[
    str | None, typer.Option("--task", help="Supply this task's input and head, and its shapes.")
]
_BATCH, _LENGTH = 8, 64


def presets(json: Json = False) -> None:
    """List the architectures that ship with HybridLab, and your saved designs."""
    from hybridlab.architecture.library import designs
    from hybridlab.architecture.library import presets as shipped

    entries = [("preset", entry) for entry in shipped()] + [
        ("design", entry) for entry in designs()
    ]
    if json:
        give(
            [
                {
                    "name": entry.name,
                    "kind": kind,
                    "title": entry.title,
                    "description": entry.description,
                    "source": entry.source,
                    "path": str(entry.path),
                }
                for kind, entry in entries
            ]
        )
    else:
        rows = [
            (entry.name, kind, entry.description or entry.title, entry.source)
            for kind, entry in entries
        ]
        table("", ("name", "kind", "what it is", "source"), rows)


def components(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this component's page.")
    ] = None,
    json: Json = False,
) -> None:
    """List the palette, every component with its parameters; or show one component's page."""
    from hybridlab.components.registry import catalogue

    if name is not None:
        _component(name, json)
        return
    entries = catalogue()
    if json:
        give(entries)
    else:
        rows = [
            (
                e["name"],
                e["kind"],
                e["cost"],
                ", ".join(e["params_schema"].get("properties", {})),
                e["summary"],
            )
            for e in entries
        ]
        table("", ("name", "kind", "cost", "parameters", "what it does"), rows)


def _component(name: str, json: bool) -> None:
    """Give one component's page, with the presets that use it."""
    from hybridlab.components.registry import catalogue
    from hybridlab.workflows.component_page import component_page

    found = component_page(name)
    if json:
        (entry,) = (entry for entry in catalogue() if entry["name"] == name)
        give({**entry, "presets": found["presets"], "page": found["page"]})
    else:
        print(found["page"], end="")


def tasks(json: Json = False) -> None:
    """List what architectures can be trained on."""
    from hybridlab.tasks.registry import catalogue

    entries = catalogue()
    if json:
        give(entries)
    else:
        rows = [
            (
                e["name"],
                e["metric"],
                ", ".join(f"{k} {v:.3g} {e['unit']}".rstrip() for k, v in e["baselines"].items()),
                e["summary"],
            )
            for e in entries
        ]
        table("", ("name", "metric", "baselines", "what it asks"), rows)


def validate(file: File, task: TaskOption = None, json: Json = False) -> int:
    """Check an architecture; every error is told with its place, what was expected and a fix."""
    from hybridlab.architecture.infer import check
    from hybridlab.architecture.library import open_architecture

    architecture: Architecture | None = None
    params: int | None = None
    try:
        architecture = open_architecture(file)
        completed, input_type = fitted(architecture, task)
        problems = check(completed, input_type)
        params = _params(completed, input_type) if not _errors(problems) else None
    except (SpecError, TaskError) as error:
        problems = list(error.problems)
    errors = _errors(problems)
    fingerprint = architecture.fingerprint if architecture is not None else None
    if json:
        give(
            {
                "ok": not errors,
                "errors": [problem.as_dict() for problem in errors],
                "warnings": [p.as_dict() for p in problems if p.severity == "warning"],
                "params": params,
                "fingerprint": fingerprint,
            }
        )
    else:
        say_errors(problems, as_json=False)
        if not errors:
            print(f"{file} is right: {params:,} parameters, fingerprint {fingerprint}")
    return 2 if errors else 0


def show(
    file: File,
    task: TaskOption = None,
    batch: Annotated[int, typer.Option(min=1, max=1 << 20, help="Samples in a batch.")] = _BATCH,
    length: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 20, help="Positions in a sample; the task's own, or 64."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Predict times for auto, cpu, cuda:0 …; or for H100, A100 … by what their makers publish."
        ),
    ] = "auto",
    json: Json = False,
) -> None:
    """Predict what an architecture costs: parameters, FLOPs, memory and time, in total and by component."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.tasks.registry import task as make_task
    from hybridlab.trace.machine import speed_of
    from hybridlab.trace.predict import predict

    architecture = open_architecture(file)
    completed, input_type = fitted(architecture, task)
    title, roofline = speed_of(device)
    prediction = predict(
        completed,
        input_type,
        batch=batch,
        length=length or (make_task(task).length if task else _LENGTH),
        roofline=roofline,
    )
    if not prediction.ok:
        raise SpecError(_errors(prediction.problems))
    if json:
        give(_shown(prediction, architecture, title))
    else:
        _print_prediction(architecture, prediction)


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A YAML file, a preset, or a design.")],
    after: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    json: Json = False,
) -> None:
    """Compare two architectures: nodes added (+), removed (-), moved (>) and changed (~), and their texts."""
    from hybridlab.architecture.compare import compare, text_difference
    from hybridlab.architecture.document import load
    from hybridlab.architecture.library import find

    files = find(before), find(after)
    difference = compare(*(load(file) for file in files))
    old, new = (file.read_text(encoding="utf-8") for file in files)
    yaml = text_difference(old, new, before, after)
    if json:
        give({**difference.as_dict(), "yaml": yaml})
    else:
        print(difference.text(), end="")
        if yaml:
            print(f"\n{yaml}", end="")


def _shown(prediction: Prediction, architecture: Architecture, device: str) -> dict[str, Any]:
    return {
        **prediction.as_dict(),
        "name": architecture.name,
        "fingerprint": architecture.fingerprint,
        "device": device,
        "problems": [problem.as_dict() for problem in prediction.problems],
    }


def _print_prediction(architecture: Architecture, prediction: Prediction) -> None:
    from hybridlab.units import format_bytes, format_count, format_flops, format_seconds

    table(
        f"{architecture.name}: predicted for a batch of {prediction.batch} × {prediction.length}",
        ("component", "use", "parameters", "forward", "kept for backward", "time of a step"),
        [
            (
                cost.path,
                cost.use,
                format_count(cost.params),
                format_flops(cost.flops),
                format_bytes(cost.activation_bytes),
                format_seconds(cost.ms / 1e3),
            )
            for cost in prediction.components
        ],
        numbers=("parameters", "forward", "kept for backward", "time of a step"),
    )
    facts(
        [
            ("reads", prediction.input),
            ("gives", prediction.output),
            ("parameters", f"{prediction.params:,}"),
            ("forward", format_flops(prediction.flops_forward)),
            ("training step", format_flops(prediction.flops_step)),
            (
                "peak memory",
                f"{format_bytes(prediction.peak_bytes)} (predicted, training with AdamW)",
            ),
            (
                "time of a step",
                f"{format_seconds(prediction.step_ms / 1e3)} (predicted, {prediction.ceilings})",
            ),
        ]
    )
    for problem in prediction.problems:
        say(f"{problem.severity}: {problem.sentence()}")


def fitted(architecture: Architecture, task: str | None) -> tuple[Architecture, TensorType | None]:
    """Return the architecture as a task trains it and what it reads, or as it stands where no task is given."""
    from hybridlab.tasks.registry import fit
    from hybridlab.tasks.registry import task as make_task

    if task is None:
        return architecture, None
    chosen = make_task(task)
    return fit(architecture, chosen), chosen.input_type()


def _params(architecture: Architecture, input_type: TensorType | None) -> int:
    from hybridlab.trace.predict import predict

    return predict(architecture, input_type, batch=1, length=_LENGTH).params


def _errors(problems: Any) -> list[Any]:
    return [problem for problem in problems if problem.severity == "error"]


VERBS: dict[str, Callable[..., Any]] = {
    "presets": presets,
    "show": show,
    "validate": validate,
    "diff": diff,
    "components": components,
    "tasks": tasks,
}
