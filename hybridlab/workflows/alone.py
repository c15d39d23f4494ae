"""The runs that a training is to be judged beside: the student without its teacher, each task by itself.

Free of torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hybridlab.runs.launcher import submit
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store

_MOST_RUNS = 1_000
_WATCHES = (
    "log_every",
    "component_metrics_every",
    "profile_every",
    "meter_hz",
    "idle_power_s",
    "stated_watts",
    "checkpoint_every",
    "keep_checkpoints",
    "pools",
    "allocator",
)
"""Settings that change nothing of what is learnt."""


def learns_from_teacher(run: Run) -> bool:
    """Say whether a run is the training of a student."""
    return run.kind == "train" and bool(_training(run).get("teacher"))


def alone_of(run: Run) -> Run | None:
    """Return the newest run of the same student without a teacher, with the same settings and seed otherwise.

    One that is done goes before one that still runs; None where there is neither.
    """
    wanted = run.spec.get("architecture"), _judged(_training(run))
    states = {RunState.DONE, RunState.RUNNING, RunState.QUEUED}
    found = [
        other
        for other in open_store().list(kind="train", states=states, limit=_MOST_RUNS)
        if other.id != run.id
        and not _training(other).get("teacher")
        and (other.spec.get("architecture"), _judged(_training(other))) == wanted
    ]
    done = [other for other in found if other.state is RunState.DONE]
    return next(iter(done or found), None)


def start_alone(run: Run) -> Run:
    """Queue the same training without the teacher, on as many cores; return its run.

    Raises:
        StoreError: the run cannot be stored.
    """
    spec = dict(run.spec)
    spec["training"] = {**_training(run), "teacher": None}
    return submit("train", f"{run.name}, alone", spec, run.threads, run.owner, device=run.device)


def start_each_alone(run: Run, names: Collection[str]) -> list[Run]:
    """Queue the same training on each of these tasks by itself, one after the other; return the runs.

    ``names`` are as the tasks are called in metrics. Each run has the same architecture, steps, samples, rate and seed.

    Raises:
        StoreError: a run cannot be stored.
    """
    training, started = _training(run), []
    for part in dict(training.get("tasks") or {}).get("of", ()):
        name = str(part.get("name") or part["task"])
        if name in names:
            own = {"task": part["task"], "task_params": dict(part.get("task_params") or {})}
            # A target is a score of all tasks together, or of another one.
            made = {**training, **own, "tasks": None, "target": None}
            title = f"{run.name}, {name} alone"
            spec = {**run.spec, "training": made}
            started.append(submit("train", title, spec, run.threads, run.owner, device=run.device))
    return started


def distillation_of(run: Run) -> dict[str, Any] | None:
    """Return what a run's result says of its teacher, with ``alone``: the student without it, where that is done.

    ``alone`` has the run, its metrics, and ``gained``: by how much the main metric is better with the teacher (above 0)
    or worse.
    """
    told = (run.result or {}).get("distillation")
    if not told:
        return None
    found = dict(told)
    twin = alone_of(run)
    found["alone"] = None
    if twin is not None and twin.state is RunState.DONE:
        metrics = dict((twin.result or {}).get("metrics") or {})
        main = str(found["metric"])
        own = dict(found["student"]["metrics"]).get(main)
        gained = None
        if own is not None and main in metrics:
            sign = 1 if found["higher_is_better"] else -1
            gained = sign * (own - metrics[main])
        found["alone"] = {"run": twin.id, "metrics": metrics, "gained": gained}
    return found


def _training(run: Run) -> dict[str, Any]:
    training = run.spec.get("training")
    return dict(training) if isinstance(training, Mapping) else {}


def _judged(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what is learnt, but for the teacher; those left empty count as left out."""
    return {
        name: value
        for name, value in training.items()
        if name not in (*_WATCHES, "teacher") and value not in (None, [], {})
    }
