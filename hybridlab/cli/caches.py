"""The verb about caches: what a design keeps while it is read one position at a time, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hybridlab.cli.designs import TaskOption
from hybridlab.cli.options import Device, read_bytes, read_numbers
from hybridlab.cli.output import File, Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.planning.caches.record import CacheReport, CacheRow, PrefixTrial

_POSITIONS = "1,64,512,4096"


def caches(
    file: File,
    task: TaskOption = None,
    positions: Annotated[
        str, typer.Option(help="Numbers of positions read, with commas between them.")
    ] = _POSITIONS,
    batch: Annotated[
        int, typer.Option(min=1, max=1 << 16, help="Sequences read side by side.")
    ] = 1,
    growth: Annotated[
        Literal["exact", "doubling", "reserved"],
        typer.Option(
            help="How caches that grow get room: at each position, twice as much, all at once."
        ),
    ] = "exact",
    measure: Annotated[
        bool, typer.Option(help="Also read so many positions and measure; else only predict.")
    ] = True,
    seconds: Annotated[
        float, typer.Option(min=0.0, max=86_400.0, help="Begin no position after so long.")
    ] = 60.0,
    requests: Annotated[
        int, typer.Option(min=0, max=4096, help="Try a prefix cache on so many that begin alike.")
    ] = 0,
    shared: Annotated[
        int, typer.Option(min=0, max=1 << 16, help="Positions that these have in common.")
    ] = 96,
    own: Annotated[
        int, typer.Option(min=1, max=1 << 16, help="Positions of each that are its own.")
    ] = 32,
    keep: Annotated[str, typer.Option(help="What the prefix cache may hold.")] = "64 MiB",
    seed: Annotated[int, typer.Option(min=0, help="Decides weights and what is read.")] = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Show what every component keeps between two positions: caches that grow, that fill, that stay as they are."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.caches import caches_of

    architecture = open_architecture(file)
    if measure:
        say("predicts the caches, then reads position after position and measures them")
    found = caches_of(
        architecture,
        task,
        positions=read_numbers("positions", positions, _POSITIONS),
        batch=batch,
        growth=growth,
        measure=measure,
        seed=seed,
        device=device,
        limit_s=seconds,
        requests=requests,
        shared=shared,
        own=own,
        most_bytes=read_bytes("keep", keep, "64 MiB"),
    )
    if json:
        give(found.as_dict())
    else:
        _print(found)
    for row in found.no_step:
        say(f"note: {row.path} has no step form: {row.no_step}")
    if found.left_out:
        say(f"note: {found.left_out} was left out of the measurement")
    if requests and found.prefix is None:
        why = (
            "the whole design has to be measured on tokens for that" if measure else "--no-measure"
        )
        say(f"note: no prefix cache was tried: {why}")
    if found.ended:
        say(f"note: reading ended early: {found.ended}")


def _print(found: CacheReport) -> None:
    from hybridlab.units import format_bytes

    columns = [f"{at:,}" for at in found.positions]
    table(
        "Caches after so many positions (predicted / measured)",
        ("component", "use", "cache", *columns),
        [
            (row.path, row.use, _form(row), *_cells(row.predicted_bytes, row.measured_bytes))
            for row in found.rows
            if row.form != "nothing"
        ],
        numbers=columns,
    )
    whole = _cells(found.predicted_bytes, found.measured_bytes)
    facts([(f"{at:,} positions", cell) for at, cell in zip(found.positions, whole, strict=True)])
    if any(found.copied_bytes):
        moved = _cells(found.copied_bytes, found.measured_copied_bytes)[-1]
        facts([("moved for room", f"{moved} in all, as caches grow ({found.growth})")])
    if found.prefix is not None:
        _print_trial(found.prefix)
    last = next((size for size in reversed(found.resident_bytes) if size is not None), None)
    if last is not None:
        facts([("process grew by", f"{format_bytes(last)} (whatever else it did included)")])


def _print_trial(trial: PrefixTrial) -> None:
    from hybridlab.units import format_bytes, format_seconds

    told, length = trial.report, trial.shared + trial.own
    facts(
        [
            (
                "prefix cache",
                f"{told.requests} requests of {length:,} positions, {trial.shared:,} alike",
            ),
            ("begun from a state", f"{told.hits} ({100 * told.hit_rate:.0f} %)"),
            ("positions saved", f"{told.saved:,} of {told.positions:,}"),
            (
                "held",
                f"{format_bytes(told.held_bytes)} in {told.kept} prefixes, {told.evicted} let go",
            ),
            ("time", f"{format_seconds(trial.cached_s)}, without {format_seconds(trial.plain_s)}"),
            ("difference", f"{trial.difference:.0e}"),
        ]
    )


def _form(row: CacheRow) -> str:
    return f"fills at {row.full_at:,}" if row.full_at else row.form


def _cells(predicted: tuple[int, ...], measured: tuple[int | None, ...]) -> list[str]:
    from hybridlab.units import format_bytes

    seen = measured or (None,) * len(predicted)
    return [
        format_bytes(one) + (f" / {format_bytes(other)}" if other is not None else "")
        for one, other in zip(predicted, seen, strict=True)
    ]


VERBS: dict[str, Callable[..., Any]] = {"caches": caches}
