"""How `hybridlab fuse --regions` answers: what was compiled, what of it is kept, what cannot be compiled and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridlab.cli.fusion import share
from hybridlab.cli.output import facts, give, say, table
from hybridlab.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from hybridlab.architecture.spec import Architecture
    from hybridlab.planning.regions.report import Judged, RegionsReport
    from hybridlab.planning.turns import Work
    from hybridlab.profiling.medians import Median


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
    from hybridlab.planning.regions.report import BYTES
    from hybridlab.workflows.regions import regions_training

    say("looks for element-wise work in a row; compiling takes seconds to minutes a region")
    found = regions_training(
        architecture, settings, training=training, rounds=rounds, most=most, say=say
    )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        found.regions.save(output)
    if json:
        give(found.as_dict())
    else:
        _print(found)
        say(f"note: {BYTES}")
    if found.busy:
        say(
            f"note: others used {found.others_cores:.1f} cores meanwhile: milliseconds are no timings"
        )


def _print(found: RegionsReport) -> None:
    numbers = ("places", "in rows", "kernels", "bytes", "time", "difference", "compiling")
    table(
        "Regions compiled (time over that of the region as it is, each alone)",
        ("what", *numbers, "verdict"),
        [_row(one) for one in found.judged],
        numbers=numbers,
    )
    facts(
        [
            ("as it is", _told(found.plain, found.plain_ms)),
            ("compiled", _told(found.compiled, found.compiled_ms) if found.applied else "nothing"),
            (
                "time",
                f"{share(found.ratio)} of that of the model as it is" if found.applied else "",
            ),
            ("verdict", found.why),
        ]
    )
    for one in found.judged:
        for broken in one.breaks:
            times = f", {broken.times} times" if broken.times > 1 else ""
            say(f"note: {one.name} runs in {one.graphs} graphs{times}: {broken.why}")
    for left in found.refused:
        some = ", ".join(left.paths[:3])
        say(f"note: {left.name} ({some}): {left.why}")


def _row(one: Judged) -> tuple[str, ...]:
    after = one.compiled
    return (
        one.name,
        f"{len(one.paths)}",
        f"{one.share:.0%}",
        f"{one.plain.kernels} → {after.kernels}" if after else f"{one.plain.kernels}",
        format_bytes(one.plain.moved_bytes)
        + (f" → {format_bytes(after.moved_bytes)} or more" if after else ""),
        share(one.ratio) if one.ratio else "",
        f"{one.error:.0e}" if one.error is not None else "",
        format_seconds(one.compile_s) if one.compile_s is not None else "",
        "kept: " + one.why if one.kept else one.why,
    )


def _told(work: Work, ms: Median) -> str:
    moved, peak = format_bytes(work.moved_bytes), format_bytes(work.peak_bytes)
    return (
        f"{work.operators} kernels, {moved} read and written, {peak} at the peak, "
        f"{format_seconds(ms.value / 1e3)}"
    )
