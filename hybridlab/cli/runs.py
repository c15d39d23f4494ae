"""Verbs about runs: list, look at, resume, cancel, delete, read the log, export."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say, table
from hybridlab.errors import Problem, RunError
from hybridlab.units import format_seconds

app = typer.Typer(help="List runs, and look after one.", rich_markup_mode=None)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its first characters.")]
StateOption = Annotated[str | None, typer.Option("--state", help="Only runs in this state.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")]
_LIMIT = 50


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    state: StateOption = None,
    limit: LimitOption = _LIMIT,
    json: Json = False,
) -> None:
    """List runs, newest first; with a verb, look after one run."""
    if context.invoked_subcommand is None:
        list_runs(state, limit, json)


@app.command("list")
def list_runs(state: StateOption = None, limit: LimitOption = _LIMIT, json: Json = False) -> None:
    """List runs, newest first."""
    from hybridlab.runs.launcher import ensure_supervisor
    from hybridlab.runs.record import RunState
    from hybridlab.runs.store import open_store

    states = None
    if state is not None:
        if state.upper() not in RunState.__members__:
            wanted = ", ".join(name.lower() for name in RunState.__members__)
            raise RunError(Problem("--state", "there is no such state", wanted, repr(state)))
        states = [RunState[state.upper()]]
    ensure_supervisor()
    found = open_store().list(states=states, limit=limit)
    if json:
        give([run.as_dict() for run in found])
    elif not found:
        say("no runs yet; `hybridlab train FILE --task TASK` starts one")
    else:
        rows = [
            (
                run.id,
                run.state.lower(),
                run.name,
                f"{run.step}/{run.steps}" if run.steps else str(run.step),
                _best(dict(run.result or {})),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created)),
            )
            for run in found
        ]
        table("", ("run", "state", "name", "step", "result", "created"), rows, numbers=("step",))


@app.command()
def show(run: RunId, json: Json = False) -> None:
    """Tell everything about a run, its last metrics included."""
    from hybridlab.runs.launcher import ensure_supervisor
    from hybridlab.runs.store import open_store

    ensure_supervisor()
    found = open_store().get(_id(run))
    latest = open_store().latest_metrics([found.id]).get(found.id, {})
    if json:
        give({**found.as_dict(), "latest_metrics": latest})
        return
    told = ("id", "name", "kind", "state", "step", "steps", "threads", "device", "granted", "error")
    pairs = [
        (name, str(getattr(found, name))) for name in told if getattr(found, name) not in ("", None)
    ]
    if found.started is not None and found.ended is not None:
        pairs.append(("took", format_seconds(found.ended - found.started)))
    metrics = {**latest, **(dict(found.result or {}).get("metrics") or {})}
    facts(pairs + [(name, f"{value:.6g}") for name, value in metrics.items()])


@app.command()
def resume(run: RunId, json: Json = False) -> int:
    """Go on with a run that was cancelled, interrupted or failed, and follow it."""
    from hybridlab.cli.follow import finish, follow
    from hybridlab.runs.launcher import resume as put_back

    return finish(follow(put_back(_id(run))), json)


@app.command()
def cancel(run: RunId, json: Json = False) -> None:
    """Ask a run to stop; it writes a checkpoint first."""
    from hybridlab.runs.launcher import cancel as ask

    found = ask(_id(run))
    if json:
        give(
            {"run": found.id, "state": str(found.state), "cancel_requested": found.cancel_requested}
        )
    else:
        print(
            f"{found.id} is {found.state.lower()}{', and asked to stop' if found.state.active else ''}"
        )


@app.command()
def delete(run: RunId, json: Json = False) -> None:
    """Delete a run, its metrics and its folder."""
    from hybridlab.runs.launcher import delete as remove

    found = _id(run)
    remove(found)
    if json:
        give({"run": found, "deleted": True})
    else:
        print(f"{found} is deleted")


@app.command()
def log(
    run: RunId,
    most: Annotated[int, typer.Option("--bytes", min=1, help="How much of its end to print.")] = 1
    << 16,
    json: Json = False,
) -> None:
    """Print the end of a run's log."""
    from hybridlab.runs.folder import read_log

    found = _id(run)
    text = read_log(found, after=-most, most_bytes=most).text
    if json:
        give({"run": found, "log": text})
    else:
        print(text, end="" if text.endswith("\n") else "\n")


@app.command()
def export(
    run: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip file to write.")],
    json: Json = False,
) -> None:
    """Write a run's record, metrics, architecture and weights to a zip file."""
    from hybridlab.runs.folder import archive

    found = _id(run)
    try:
        archive(found, output)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunError(Problem(str(output), f"cannot be written: {reason}")) from None
    if json:
        give({"run": found, "path": str(output), "bytes": output.stat().st_size})
    else:
        print(f"wrote {output}")


def _id(start: str) -> str:
    """Return the id of the one run that begins with these characters.

    Raises:
        RunError: none does, or several do.
    """
    from hybridlab.runs.store import open_store

    start = start.strip().lower()
    found = [run for run in open_store().list(text=start) if start and run.id.startswith(start)]
    if len(found) == 1:
        return found[0].id
    message = "several runs begin like this" if found else "there is no such run"
    raise RunError(
        Problem("run", message, "a run's id", repr(start[:60]), "`hybridlab runs` lists them")
    )


def _best(result: dict[str, Any]) -> str:
    tests = {k: v for k, v in (result.get("metrics") or {}).items() if k.startswith("test_")}
    return ", ".join(f"{name} {value:.4g}" for name, value in tests.items())
