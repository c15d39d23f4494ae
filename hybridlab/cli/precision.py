"""The verb that mixes number formats: components in bfloat16 or float16 where that is right enough, and better."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.fusion import share, told
from hybridlab.cli.output import File, Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.planning.precision.cases import Judged
    from hybridlab.planning.precision.measure import PrecisionReport


class For(StrEnum):
    """What is to be better."""

    inference = "inference"
    training = "training"
    memory = "memory"


class Format(StrEnum):
    """A number format."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def precision(
    file: File,
    task: Annotated[
        str, typer.Option(help="Whose batch it runs on; `hybridlab tasks` lists them.")
    ],
    what: Annotated[
        For,
        typer.Option(
            "--for",
            help="What is to be better: the time of passes forward or of training steps, or the memory of the latter.",
        ),
    ] = For.inference,
    dtype: Annotated[
        Format | None,
        typer.Option(
            help="Format that components may compute in; bfloat16, or float32 where the step is not in float32."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Format of the step itself, as a training has it.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="Largest relative difference of gradients, or of the output forward."),
    ] = 5e-2,
    loss_tolerance: Annotated[
        float, typer.Option(help="Largest relative difference of the loss.")
    ] = 1e-2,
    batch: Annotated[
        int | None, typer.Option(min=1, max=1 << 20, help="Samples in a batch; the task's own.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=7, max=1000, help="Turns that are timed; fewer where they take long.")
    ] = 21,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights and batch.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0 …")] = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Write the components and their formats here, as JSON.")
    ] = None,
    json: Json = False,
) -> None:
    """Choose components that compute in another number format, where that is right enough and measured better.

    Each is run in it on a batch, alone and in the whole, and held against float32: its output, the loss, all gradients.
    Of those within the tolerance the fastest set is kept, if it is faster; or the one that keeps fewer bytes.
    """
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.precision import measure_precisions

    asked = {"batch": batch, "precision": precision}
    settings = {"task": task, "seed": seed, "device": device}
    settings |= {name: value for name, value in asked.items() if value is not None}
    architecture = open_architecture(file)
    say(
        "compares each component with float32, then times it and sets of them with the step as it is"
    )
    found = measure_precisions(
        architecture,
        settings,
        training=what is not For.inference,
        memory=what is For.memory,
        format=None if dtype is None else str(dtype),
        tolerance=tolerance,
        loss_tolerance=loss_tolerance,
        rounds=rounds,
    )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        found.precisions.save(output)
    if json:
        give(found.as_dict())
    else:
        _print(found)
    if found.busy:
        say(
            f"note: others used {found.others_cores:.1f} cores meanwhile: milliseconds are no timings"
        )


def _print(found: PrecisionReport) -> None:
    """Print each component's errors, time and bytes and what came of it, then the whole."""
    from hybridlab.units import format_bytes

    numbers = ("output error", "error of the whole", "time", "kept before", "kept after")
    table(
        "Components in another format (errors against float32; time over that as it is, each component alone)",
        ("component", "format", *numbers, "verdict"),
        [_row(one) for one in found.judged],
        numbers=numbers,
    )
    before, after = format_bytes(found.plain_saved_bytes), format_bytes(found.saved_bytes)
    trains = found.precisions.training
    mixed = told(found.mixed, found.mixed_ms) if found.applied else "nothing"
    said = [("as it is", told(found.plain, found.plain_ms)), ("mixed", mixed)]
    if trains:
        kept = f"{after} instead of {before}" if found.applied else before
        said.append(("kept for backward", kept))
    if found.applied:
        what = "gradients" if trains else "the output"
        errors = f"{found.loss_error:.1e} of the loss, {found.error:.1e} of {what}"
        said += [("errors", errors), ("time", f"{share(found.ratio)} of that as it is")]
    facts([*said, ("verdict", found.why)])


def _row(one: Judged) -> tuple[str, ...]:
    from hybridlab.units import format_bytes

    errors = [
        f"{value:.1e}" if value is not None else "" for value in (one.output_error, one.error)
    ]
    kept = [
        format_bytes(value) if value is not None else ""
        for value in (one.plain_saved_bytes, one.saved_bytes)
    ]
    time = share(one.ratio) if one.ratio else ""
    verdict = "kept: " + one.why if one.kept else one.why
    return (one.component, one.format, *errors, time, *kept, verdict)


VERBS: dict[str, Callable[..., Any]] = {"precision": precision}
