"""The verb that searches: runs a search file's trials and gives the Pareto front."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.search.front import ParetoFront

_EVERY_S = 5.0


def search(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A search in a YAML file.")],
    trials: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Finished trials the study shall hold.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="cost_aware, tpe, nsga2, nsga3, random or grid; the file's own."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Decides what is tried.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Go on with this study, or make one of this name.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:///FILE, or a journal file; the home folder's."),
    ] = None,
    json: Json = False,
) -> None:
    """Search the designs that a file allows; give the front of its trade-offs, each point an architecture."""
    import time

    from hybridlab.workflows.search import run_search

    told = [0.0]

    def tell(done: int, of: int) -> None:
        if done == of or time.monotonic() - told[0] > _EVERY_S:
            told[0] = time.monotonic()
            say(f"{done:,} of {of:,} trials")

    front = run_search(
        file,
        trials=trials,
        sampler=sampler,
        seed=seed,
        study=study,
        storage=storage,
        on_trial=tell,
    )
    if json:
        give(front.as_dict())
    else:
        _print(front)


def _print(front: ParetoFront) -> None:
    columns = [
        f"{objective.name} ({'predicted' if objective.predicted else 'measured'})"
        for objective in front.objectives
    ]
    rows = [
        (str(point.trial), *(f"{value:,.6g}" for value in point.values)) for point in front.points
    ]
    table(f"front of {front.study}: what no other trial beats", ("trial", *columns), rows, columns)
    share = front.hypervolume_share
    pairs = [
        ("trials", f"{front.trials:,}, {front.infeasible} over a limit, {front.failed} failed"),
        ("hypervolume", f"{front.hypervolume:.6g}"),
    ]
    if share is not None:
        pairs.append(("of the true front's", f"{share:.4f}"))
    if knee := front.knee():
        pairs.append(("knee", f"trial {knee.trial}"))
    facts(pairs)


VERBS: dict[str, Callable[..., Any]] = {"search": search}
