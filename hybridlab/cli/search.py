"""The verbs that search: run a search file's trials, work on a study, and give its Pareto front."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say, table

if TYPE_CHECKING:
    from hybridlab.search.front import ParetoFront

_EVERY_S = 5.0
_STOPPED = 130


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
        typer.Option(
            metavar="URL",
            help="postgresql://…, sqlite:///FILE, or a journal file; the home folder's.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Trials at once, 1, or as a cluster has room; those that train are runs.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Workers by Ray: local starts a cluster here, auto finds one; needs hybridlab[cluster].",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Search the designs that a file allows; give the front of its trade-offs, each point an architecture."""
    from hybridlab.workflows.search import run_search
    from hybridlab.workflows.work import stopped_by_signals

    with stopped_by_signals() as should_stop:
        more: dict[str, Any] = {
            "trials": trials,
            "sampler": sampler,
            "seed": seed,
            "study": study,
            "storage": storage,
            "on_trial": _teller(),
            "on_words": say,
            "should_stop": should_stop,
        }
        if ray is None:
            front = run_search(file, workers=workers or 1, **more)
        else:
            from hybridlab.workflows.cluster import search_on_ray

            front = search_on_ray(file, ray, workers=workers, **more)
        return _end(front, json, stopped=should_stop())


def worker(
    study: Annotated[str, typer.Option(help="The study to work on.")],
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where it is, if this home does not know it yet."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Trials at once; those that train are runs.")
    ] = 1,
    json: Json = False,
) -> int:
    """Work on a study beside whoever else does, on any machine that reaches its storage, until it is done."""
    from hybridlab.workflows.search import work_on
    from hybridlab.workflows.work import stopped_by_signals

    with stopped_by_signals() as should_stop:
        front = work_on(
            study,
            place=storage,
            workers=workers,
            on_trial=_teller(),
            on_words=say,
            should_stop=should_stop,
        )
        return _end(front, json, stopped=should_stop())


def front(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The name of a study.")],
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where it is, if this home does not know it yet."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write each point as an architecture into a folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the front that a study has by now; write its points as architectures that all validate."""
    from hybridlab.search.export import export
    from hybridlab.workflows.search import front_of_study

    found = front_of_study(study, storage)
    files = export(found, output) if output else None
    if json:
        give(found.as_dict() | ({"files": [str(file) for file in files]} if files else {}))
    else:
        _print(found)
        if files:
            say(f"{len(files)} files in {output}")


def _teller() -> Callable[[int, int], None]:
    """Return a function that tells how many trials have ended, every few seconds and at the end."""
    import time

    told = [0.0]

    def tell(done: int, of: int) -> None:
        if done == of or time.monotonic() - told[0] > _EVERY_S:
            told[0] = time.monotonic()
            say(f"{done:,} of {of:,} trials")

    return tell


def _end(front: ParetoFront, json: bool, *, stopped: bool) -> int:
    """Give the front and return the exit code, which is not 0 where somebody stopped the search."""
    if stopped:
        say(f"stopped; `hybridlab worker --study {front.study}` goes on")
    if json:
        give(front.as_dict())
    else:
        _print(front)
    return _STOPPED if stopped else 0


def _print(front: ParetoFront) -> None:
    columns = [f"{objective.name} ({objective.source})" for objective in front.objectives]
    rows = [
        (str(point.trial), *(f"{value:,.6g}" for value in point.values)) for point in front.points
    ]
    table(f"front of {front.study}: what no other trial beats", ("trial", *columns), rows, columns)
    share = front.hypervolume_share
    pairs = [
        ("trials", _counted(front)),
        ("hypervolume", f"{front.hypervolume:.6g}"),
    ]
    if share is not None:
        pairs.append(("of the true front's", f"{share:.4f}"))
    if knee := front.knee():
        pairs.append(("knee", f"trial {knee.trial}"))
    facts(pairs)


def _counted(front: ParetoFront) -> str:
    words = f"{front.trials:,}, {front.infeasible} over a limit, {front.failed} failed"
    return words + (f", {front.stopped} stopped early" if front.stopped else "")


VERBS: dict[str, Callable[..., Any]] = {"search": search, "worker": worker, "front": front}
