"""The verb that fuses: linear maps that read one tensor, and norms into the maps behind them, where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.choices import For, answer, candidates, outcome, share
from hybridlab.cli.options import Batch, ChoiceFile, Device, Rounds, Seed, Task, given
from hybridlab.cli.output import File, Json, say
from hybridlab.errors import Problem, SpecError

if TYPE_CHECKING:
    from hybridlab.planning.fusion.measure import FusionReport

_MOST = 12


def fuse(
    file: File,
    task: Task,
    what: Annotated[
        For, typer.Option("--for", help="What is to be faster: passes forward, or training steps.")
    ] = For.inference,
    batch: Batch = None,
    rounds: Rounds = 21,
    regions: Annotated[
        bool,
        typer.Option(
            "--regions", help="Compile components instead, each for itself; it takes minutes."
        ),
    ] = False,
    most: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Regions that are compiled, at most; 12 by itself."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    output: ChoiceFile = None,
    json: Json = False,
) -> None:
    """Fuse linear maps that read one tensor, and for inference norms into the maps behind them, where that is faster.

    Tables of turns are made once. Everything is run as it is and fused, in turn, on this machine; what is not measured
    faster is left as it is. With --regions it is components whose element-wise work PyTorch's compiler makes into few
    kernels; that goes into a training's settings under regions.
    """
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.fusion import fuse_training

    if most is not None and not regions:
        raise SpecError(
            Problem(
                "--most", "is about compiled regions", fix="give --regions too, or leave it out"
            )
        )
    settings = given(task=task, seed=seed, device=device, batch=batch)
    architecture = open_architecture(file)
    if regions:
        from hybridlab.cli.regions import measured

        measured(
            *(architecture, settings),
            training=what is For.training,
            rounds=rounds,
            most=most or _MOST,
            output=output,
            json=json,
        )
        return
    say("looks for what can be fused, then times it and the model as it is in turn")
    training = what is For.training
    answer(
        lambda: fuse_training(architecture, settings, training=training, rounds=rounds),
        lambda found: found.fusion,
        _print,
        output,
        json,
    )


def _print(found: FusionReport) -> None:
    """Print what was tried, what came of it, and what cannot be fused."""
    numbers = ("places", "time", "difference")
    candidates(
        "What can be fused (time over that of the model as it is)",
        ("what", *numbers),
        found.judged,
        lambda one: (one.name, f"{one.places}", share(one.ratio), f"{one.error:.0e}"),
        numbers,
    )
    after = (found.fused, found.fused_ms)
    outcome(found, "as it is", "fused", after, whole="that of the model as it is")
    for one in found.refused:
        say(f"note: {one.path} {one.why}")


VERBS: dict[str, Callable[..., Any]] = {"fuse": fuse}
