"""Verbs about runs: list, look at, resume, cancel, delete, read the log, export."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.output import Json, facts, give, say, table, unwritable
from hybridlab.errors import Problem, RunError
from hybridlab.units import format_seconds
from hybridlab.writing import whole

if TYPE_CHECKING:
    from hybridlab.training.flow_finding import FlowFinding

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
    found = open_store().get(whole_id(run))
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

    return finish(follow(put_back(whole_id(run))), json)


@app.command()
def cancel(run: RunId, json: Json = False) -> None:
    """Ask a run to stop; it writes a checkpoint first."""
    from hybridlab.runs.launcher import cancel as ask

    found = ask(whole_id(run))
    if json:
        give(
            {"run": found.id, "state": str(found.state), "cancel_requested": found.cancel_requested}
        )
    else:
        print(
            f"{found.id} is {found.state.lower()}{', and asked to stop' if found.state.active else ''}"
        )


@app.command()
def profile(
    run: RunId,
    steps: Annotated[int, typer.Option(min=1, help="How many of its next steps to record.")] = 20,
    after: Annotated[
        int, typer.Option(min=0, help="So many steps go by before, without the profiler.")
    ] = 0,
    warm_up: Annotated[
        int, typer.Option(min=1, help="Steps under the profiler before, which are thrown away.")
    ] = 1,
    repeat: Annotated[
        int, typer.Option(min=1, help="How often all that, each time into a trace of its own.")
    ] = 1,
    wait: Annotated[bool, typer.Option(help="Wait until the trace is written.")] = True,
    json: Json = False,
) -> int:
    """Profile the next steps of a training that is under way, without stopping it; TensorBoard reads the trace."""
    from hybridlab.runs.home import run_folder
    from hybridlab.runs.profile_request import PROFILE, ProfileState, ask
    from hybridlab.workflows.follow import wait_for_profile

    found = whole_id(run)
    request = ask(found, steps, wait=after, warm_up=warm_up, repeat=repeat)
    often = f", {repeat} times" if repeat > 1 else ""
    later = f" after {after} more" if after else ""
    say(f"asked run {found} to profile its next {steps} steps{later}{often}")
    if wait:
        request = wait_for_profile(found)
    folder = run_folder(found) / PROFILE
    path = str(folder / request.file) if request.file else None
    failed = request.state is ProfileState.FAILED
    if json:
        told: dict[str, Any] = {"run": found, "path": path, **request.as_dict()}
        if failed:
            told["errors"] = [Problem(f"run {found}", request.message).as_dict()]
        give(told)
    elif failed:
        say(request.message)
    elif path is not None:
        said = f" ({request.message})" if request.message else ""
        print(f"{path}: steps {_steps(request.first_step, request.recorded)}{said}")
    return 1 if failed else 0


def _steps(first: int | None, count: int) -> str:
    return f"{first} to {first + count - 1}" if first is not None else "none"


@app.command()
def delete(run: RunId, json: Json = False) -> None:
    """Delete a run, its metrics and its folder."""
    from hybridlab.runs.launcher import delete as remove

    found = whole_id(run)
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

    found = whole_id(run)
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

    found = whole_id(run)
    try:
        with whole(output) as draft:
            archive(found, draft)
    except OSError as error:
        raise unwritable(output, error) from None
    if json:
        give({"run": found, "path": str(output), "bytes": output.stat().st_size})
    else:
        print(f"wrote {output}")


@app.command()
def flow(
    run: RunId,
    apply: Annotated[
        str | None,
        typer.Option(metavar="NUMBER.REMEDY", help="Start a run like it with a remedy, as 1.norm."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell how gradients flow through a training: what stands out, with numbers and what may help."""
    from hybridlab.runs.launcher import ensure_supervisor
    from hybridlab.runs.store import open_store
    from hybridlab.training.flow_findings import findings
    from hybridlab.workflows.gradient_flow import flow_of, start_with

    looked = open_store().get(whole_id(run))
    measured, architecture = flow_of(looked)
    found = findings(measured, architecture)
    ratios = measured.ratios()
    started = start_with(looked, found, apply) if apply else None
    if started is not None:
        ensure_supervisor()
    if json:
        components = {
            part.path: {
                name: values[max(values)]
                for name, curves in measured.curves.items()
                if (values := curves.get(part.path))
            }
            for part in measured.parts
        }
        told: dict[str, Any] = {
            "run": looked.id,
            "steps": list(ratios),
            "ratio": list(ratios.values()),
        }
        told |= {"components": components, "findings": [one.as_dict() for one in found]}
        give(told | {"started": started.id if started is not None else None})
        return
    if started is not None:
        print(f"{started.id} is queued: {started.name}")
        return
    _tell_flow(ratios, found)


def _tell_flow(ratios: Mapping[int, float], found: Sequence[FlowFinding]) -> None:
    """Print findings with their remedies, or why there are none."""
    if not ratios:
        say("no gradients were measured: component_metrics_every was 0, or the run has not begun")
        return
    last = max(ratios)
    print(f"largest over smallest gradient at step {last:,}: {ratios[last]:,.3g} (measured)")
    for place, one in enumerate(found, 1):
        print(f"{place}. {one.sentence}")
        for remedy in one.remedies:
            print(f"   {place}.{remedy.name:<12} {remedy.title}: {remedy.reason}")
    if found:
        say("`--apply 1.NAME` starts a run like this one with a remedy")
    else:
        print("nothing stands out")


def whole_id(start: str) -> str:
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
