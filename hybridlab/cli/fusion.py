"""The verb that fuses: linear maps that read one tensor, and norms into the maps behind them, where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import File, Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.planning.fusion.measure import FusionReport
    from hybridlab.planning.turns import Work
    from hybridlab.profiling.medians import Median


class For(StrEnum):
    """What is to be faster."""

    inference = "inference"
    training = "training"


def fuse(
    file: File,
    task: Annotated[
        str, typer.Option(help="Whose batch it runs on; `hybridlab tasks` lists them.")
    ],
    what: Annotated[
        For, typer.Option("--for", help="What is to be faster: passes forward, or training steps.")
    ] = For.inference,
    batch: Annotated[
        int | None, typer.Option(min=1, max=1 << 20, help="Samples in a batch; the task's own.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=7, max=1000, help="Turns that are timed; fewer where they take long.")
    ] = 21,
    regions: Annotated[
        bool,
        typer.Option(
            "--regions", help="Compile components instead, each for itself; it takes minutes."
        ),
    ] = False,
    most: Annotated[
        int, typer.Option(min=1, max=1000, help="Regions that are compiled, at most.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights and batch.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0 …")] = "auto",
    output: Annotated[Path | None, typer.Option(help="Write what is fused here, as JSON.")] = None,
    json: Json = False,
) -> None:
    """Fuse linear maps that read one tensor, and for inference norms into the maps behind them, where that is faster.

    Tables of turns are made once. Everything is run as it is and fused, in turn, on this machine; what is not measured
    faster is left as it is. With --regions it is components whose element-wise work PyTorch's compiler makes into few
    kernels; that goes into a training's settings under regions.
    """
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.fusion import fuse_training

    asked = {"batch": batch} if batch is not None else {}
    settings = {"task": task, "seed": seed, "device": device, **asked}
    architecture = open_architecture(file)
    if regions:
        from hybridlab.cli.regions import measured

        measured(
            *(architecture, settings),
            training=what is For.training,
            rounds=rounds,
            most=most,
            output=output,
            json=json,
        )
        return
    say("looks for what can be fused, then times it and the model as it is in turn")
    found = fuse_training(architecture, settings, training=what is For.training, rounds=rounds)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        found.fusion.save(output)
    if json:
        give(found.as_dict())
    else:
        _print(found)
    if found.busy:
        say(
            f"note: others used {found.others_cores:.1f} cores meanwhile: milliseconds are no timings"
        )


def _print(found: FusionReport) -> None:
    """Print what was tried, what came of it, and what cannot be fused."""
    numbers = ("places", "time", "difference")
    table(
        "What can be fused (time over that of the model as it is)",
        ("what", *numbers, "verdict"),
        [
            (
                one.name,
                f"{one.places}",
                share(one.ratio) if one.ratio else "",
                f"{one.error:.0e}",
                "kept: " + one.why if one.kept else one.why,
            )
            for one in found.judged
        ],
        numbers=numbers,
    )
    facts(
        [
            ("as it is", told(found.plain, found.plain_ms)),
            ("fused", told(found.fused, found.fused_ms) if found.applied else "nothing"),
            (
                "time",
                f"{share(found.ratio)} of that of the model as it is" if found.applied else "",
            ),
            ("verdict", found.why),
        ]
    )
    for one in found.refused:
        say(f"note: {one.path} {one.why}")


def share(ratio: Median) -> str:
    """Return a ratio with its interval."""
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def told(work: Work, ms: Median) -> str:
    """Return what a step takes, in words."""
    from hybridlab.units import format_bytes, format_seconds

    moved, peak = format_bytes(work.moved_bytes), format_bytes(work.peak_bytes)
    return (
        f"{work.operators} operators, {moved} read and written, {peak} at the peak, "
        f"{format_seconds(ms.value / 1e3)}"
    )


VERBS: dict[str, Callable[..., Any]] = {"fuse": fuse}
