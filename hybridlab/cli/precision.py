"""The verb that mixes number formats: components in bfloat16 or float16 where that is right enough, and better."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.choices import answer, candidates, outcome, share
from hybridlab.cli.options import Batch, ChoiceFile, Device, Rounds, Seed, Task, given
from hybridlab.cli.output import File, Json, say

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
    task: Task,
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
    batch: Batch = None,
    rounds: Rounds = 21,
    seed: Seed = 0,
    device: Device = "auto",
    output: ChoiceFile = None,
    json: Json = False,
) -> None:
    """Choose components that compute in another number format, where that is right enough and measured better.

    Each is run in it on a batch, alone and in the whole, and held against float32: its output, the loss, all gradients.
    Of those within the tolerance the fastest set is kept, if it is faster; or the one that keeps fewer bytes.
    """
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.precision import measure_precisions

    settings = given(task=task, seed=seed, device=device, batch=batch, precision=precision)
    architecture = open_architecture(file)
    say(
        "compares each component with float32, then times it and sets of them with the step as it is"
    )
    answer(
        lambda: measure_precisions(
            architecture,
            settings,
            training=what is not For.inference,
            memory=what is For.memory,
            format=None if dtype is None else str(dtype),
            tolerance=tolerance,
            loss_tolerance=loss_tolerance,
            rounds=rounds,
        ),
        lambda found: found.precisions,
        _print,
        output,
        json,
    )


def _print(found: PrecisionReport) -> None:
    """Print each component's errors, time and bytes and what came of it, then the whole."""
    from hybridlab.units import format_bytes

    numbers = ("output error", "error of the whole", "time", "kept before", "kept after")
    candidates(
        "Components in another format (errors against float32; time over that as it is, each component alone)",
        ("component", "format", *numbers),
        found.judged,
        _row,
        numbers,
    )
    before, after = format_bytes(found.plain_saved_bytes), format_bytes(found.saved_bytes)
    trains = found.precisions.training
    said = []
    if trains:
        kept = f"{after} instead of {before}" if found.applied else before
        said.append(("kept for backward", kept))
    if found.applied:
        what = "gradients" if trains else "the output"
        errors = f"{found.loss_error:.1e} of the loss, {found.error:.1e} of {what}"
        said.append(("errors", errors))
    step = (found.mixed, found.mixed_ms)
    outcome(found, "as it is", "mixed", step, whole="that as it is", more=said)


def _row(one: Judged) -> tuple[str, ...]:
    from hybridlab.units import format_bytes

    errors = [
        f"{value:.1e}" if value is not None else "" for value in (one.output_error, one.error)
    ]
    kept = [
        format_bytes(value) if value is not None else ""
        for value in (one.plain_saved_bytes, one.saved_bytes)
    ]
    return (one.component, one.format, *errors, share(one.ratio), *kept)


VERBS: dict[str, Callable[..., Any]] = {"precision": precision}
