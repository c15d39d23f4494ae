"""How `hybridlab fuse --regions` answers: what was compiled, what of it is kept, what cannot be compiled and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridlab.cli.choices import answer, candidates, outcome, share
from hybridlab.cli.output import say
from hybridlab.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from hybridlab.architecture.spec import Architecture
    from hybridlab.planning.regions.report import Judged, RegionsReport


def measured(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    training: bool,
    rounds: int,
    most: int,
    output: Path | None,
    json: bool,
) -> None:
    """Compile and time regions in a process of its own, write what is kept, and print what came of it."""
    from hybridlab.workflows.regions import regions_training

    say("looks for element-wise work in a row; compiling takes seconds to minutes a region")
    answer(
        lambda: regions_training(
            architecture, settings, training=training, rounds=rounds, most=most, say=say
        ),
        lambda found: found.regions,
        _print,
        output,
        json,
    )


def _print(found: RegionsReport) -> None:
    from hybridlab.planning.regions.report import BYTES

    numbers = ("places", "in rows", "kernels", "bytes", "time", "difference", "compiling")
    candidates(
        "Regions compiled (time over that of the region as it is, each alone)",
        ("what", *numbers),
        found.judged,
        _row,
        numbers,
    )
    after, whole = (found.compiled, found.compiled_ms), "that of the model as it is"
    outcome(found, "as it is", "compiled", after, whole=whole, counted="kernels")
    for one in found.judged:
        for broken in one.breaks:
            times = f", {broken.times} times" if broken.times > 1 else ""
            say(f"note: {one.name} runs in {one.graphs} graphs{times}: {broken.why}")
    for left in found.refused:
        some = ", ".join(left.paths[:3])
        say(f"note: {left.name} ({some}): {left.why}")
    say(f"note: {BYTES}")


def _row(one: Judged) -> tuple[str, ...]:
    after = one.compiled
    return (
        one.name,
        f"{len(one.paths)}",
        f"{one.share:.0%}",
        f"{one.plain.kernels} → {after.kernels}" if after else f"{one.plain.kernels}",
        format_bytes(one.plain.moved_bytes)
        + (f" → {format_bytes(after.moved_bytes)} or more" if after else ""),
        share(one.ratio),
        f"{one.error:.0e}" if one.error is not None else "",
        format_seconds(one.compile_s) if one.compile_s is not None else "",
    )
