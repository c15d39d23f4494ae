"""The verb about samples of several lengths: what sorting batches by length saves against padding to the longest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.choices import say_busy
from hybridlab.cli.options import (
    TrainBatch,
    TrainDevice,
    TrainFile,
    TrainSeed,
    TrainSet,
    TrainTask,
    read_numbers,
    training_settings,
)
from hybridlab.cli.output import File, Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.planning.buckets.record import BucketReport, BucketRow

_COUNTS = "1,2,4,8"


def buckets(
    file: File,
    task: TrainTask = None,
    training: TrainFile = None,
    counts: Annotated[
        str, typer.Option("--buckets", help="Batches that are sorted together, with commas.")
    ] = _COUNTS,
    steps: Annotated[
        int | None, typer.Option(help="Steps that are compared; the most buckets by itself.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Also run it; else only predict.")] = True,
    rounds: Annotated[
        int, typer.Option(min=3, max=1000, help="Turns that are timed; fewer where they are long.")
    ] = 7,
    seconds: Annotated[
        float, typer.Option(min=0.0, max=86_400.0, help="Begin no turn after so long.")
    ] = 60.0,
    batch: TrainBatch = None,
    seed: TrainSeed = None,
    device: TrainDevice = None,
    setting: TrainSet = None,
    json: Json = False,
) -> None:
    """Show what sorting samples by length saves: padding, bytes and time, against padding to the longest sample."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.buckets import compare_buckets

    settings = training_settings(
        training, setting, task=task, batch=batch, seed=seed, device=device
    )
    architecture = open_architecture(file)
    say("makes batches of the same samples in several ways, then looks at their steps in turn")
    found = compare_buckets(
        architecture,
        settings,
        counts=read_numbers("buckets", counts, _COUNTS),
        steps=steps,
        measure=measure,
        rounds=rounds,
        limit_s=seconds,
    )
    if json:
        give(found.as_dict())
    else:
        _print(found)
    for note in found.notes:
        say(f"note: {note}")
    say_busy(found)


def _print(found: BucketReport) -> None:
    numbers = ("padding", "positions", "largest step", "mean step", "time of a step", "time")
    table(
        f"{found.steps} steps of {found.batch} samples of {found.task}, sorted by length (bytes: predicted / measured)",
        ("batches sorted together", "lengths", *numbers),
        [_cells(row) for row in found.rows],
        numbers=numbers,
    )
    if found.fastest:
        facts([("train with", f"--set buckets={found.fastest}")])


def _cells(row: BucketRow) -> tuple[str, ...]:
    from hybridlab.units import format_bytes, format_seconds

    told = row.as_dict()
    sizes = []
    for name in ("peak_bytes", "mean_bytes"):
        measured = told[name]["measured"]
        text = format_bytes(told[name]["predicted"])
        sizes.append(text + (f" / {format_bytes(measured)}" if measured is not None else ""))
    shortest, longest = min(row.lengths), max(row.lengths)
    return (
        f"{row.buckets}" if row.buckets else "none: padded to the longest",
        f"{shortest:,} to {longest:,}" if shortest < longest else f"{longest:,}",
        f"{100 * row.padding_share:.0f} %",
        f"{row.positions:,}",
        *sizes,
        format_seconds(row.step_ms.value / 1e3) if row.step_ms else "",
        f"x {row.ratio.value:.2f} ({row.ratio.low:.2f} to {row.ratio.high:.2f})"
        if row.ratio
        else "",
    )


VERBS: dict[str, Callable[..., Any]] = {"buckets": buckets}
