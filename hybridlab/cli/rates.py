"""The verb that looks for a learning rate: a range test on real batches, for all weights or for one group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import File, Json, give, say, table
from hybridlab.cli.training import read_pairs

if TYPE_CHECKING:
    from hybridlab.training.rate_curve import RateCurve

_ROWS = 15


def lr_find(
    file: File,
    task: Annotated[
        str | None, typer.Option(help="What it trains on; `hybridlab tasks` lists them.")
    ] = None,
    training: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settings in a YAML file, groups among them.")
    ] = None,
    group: Annotated[
        str, typer.Option(help="A group of the settings; without it, the rate of all.")
    ] = "",
    steps: Annotated[int, typer.Option(help="Rates that are tried.")] = 100,
    lowest: Annotated[float, typer.Option(help="The first rate.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="The last rate, unless the loss runs away.")] = 10,
    batch: Annotated[int | None, typer.Option(help="Samples per update; the task's own.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides the first weights and the batches.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda:0 …")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Find a learning rate: let it grow from step to step until the loss runs away, and see where the loss falls."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.training.spec import read_settings
    from hybridlab.workflows.rates import find_rates

    named = {"task": task, "batch": batch, "seed": seed, "device": device}
    settings = {
        **(read_settings(training) if training else {}),
        **read_pairs(setting or []),
        **{key: value for key, value in named.items() if value is not None},
    }
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
