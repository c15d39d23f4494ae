"""The verb that looks for a learning rate: a range test on real batches, for all weights or for one group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.options import (
    TrainBatch,
    TrainDevice,
    TrainFile,
    TrainSeed,
    TrainSet,
    TrainTask,
    training_settings,
)
from hybridlab.cli.output import File, Json, give, say, table

if TYPE_CHECKING:
    from hybridlab.training.rate_curve import RateCurve

_ROWS = 15


def lr_find(
    file: File,
    task: TrainTask = None,
    training: TrainFile = None,
    group: Annotated[
        str, typer.Option(help="A group of the settings; without it, the rate of all.")
    ] = "",
    steps: Annotated[int, typer.Option(help="Rates that are tried.")] = 100,
    lowest: Annotated[float, typer.Option(help="The first rate.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="The last rate, unless the loss runs away.")] = 10,
    batch: TrainBatch = None,
    seed: TrainSeed = None,
    device: TrainDevice = None,
    setting: TrainSet = None,
    json: Json = False,
) -> None:
    """Find a learning rate: let it grow from step to step until the loss runs away, and see where the loss falls."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.rates import find_rates

    settings = training_settings(
        training, setting, task=task, batch=batch, seed=seed, device=device
    )
    architecture = open_architecture(file)
    say(f"tries {steps} rates from {lowest:g} to {highest:g}, then the same batches with rate 0")
    found = find_rates(
        architecture, settings, group=group, steps=steps, lowest=lowest, highest=highest
    )
    if json:
        give(found.as_dict())
    else:
        _print(found)


def _print(found: RateCurve) -> None:
    every = max(1, len(found.rates) // _ROWS)
    numbers = ("rate", "loss", "loss at rate 0")
    table(
        f"loss by learning rate of {found.group or 'all'} (measured, smoothed, in the task's unit)",
        numbers,
        [
            (f"{rate:.2g}", f"{loss:.4g}", f"{without:.4g}")
            for rate, loss, without in list(
                zip(found.rates, found.smoothed, found.smoothed_control, strict=True)
            )[::every]
        ],
        numbers=numbers,
    )
    print(found.reason)
    if found.suggestion is not None:
        print(f"suggestion  {found.suggestion:g}")


VERBS: dict[str, Callable[..., Any]] = {"lr-find": lr_find}
