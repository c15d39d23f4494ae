"""See why hybrids: a hybrid and its two parents on a task of memory and a task of lookup, side by side. Free of torch.

The hybrid (LSTM, then attention) solves both tasks; the LSTM alone does not learn the lookup and attention alone does
not carry parity to longer sequences within the same budget of steps. That is what these settings show, no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.library import find
from hybridlab.runs.home import home_id
from hybridlab.runs.launcher import cancel, ensure_supervisor
from hybridlab.runs.launcher import submit as submit_run
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import Store, open_store
from hybridlab.training.spec import make
from hybridlab.units import format_seconds

BUDGET_S = 240
"""Seconds in which all six runs end on two cores."""
SOLVED = 0.98
MODELS: Mapping[str, str] = {
    "hybrid": "lstm_attention_mini",
    "lstm": "lstm_mini",
    "attention": "attention_mini",
}
"""Who is compared, hybrid first, and the preset of each."""
TASKS: Mapping[str, str] = {"parity": "test_accuracy_96", "mqar": "test_accuracy"}
"""What is compared on each task; parity counts at three times the length trained on."""
_COMMON = {
    "batch": 64,
    "learning_rate": 5e-3,
    "schedule": "constant",
    "warmup_steps": 20,
    "weight_decay": 0.0,
    "eval_every": 25,
    "checkpoint_every": 200,
    "device": "cpu",
}
_OF_TASK = {
    "parity": {"task_params": {"length": 32, "longer": 96}, "steps": 300, "target": 0.999},
    "mqar": {"task_params": {"pairs": 8, "length": 64}, "steps": 500, "target": 0.995},
}
_POLL_SECONDS = 0.3
_OWNER = "demo"
Ids = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Planned:
    """One run of the demonstration: a model on a task, and the record it is queued with."""

    task: str
    model: str
    name: str
    spec: Mapping[str, Any]


def plan(seed: int = 0) -> list[Planned]:
    """Return the six runs in their order: parity, then recall; the hybrid before its parents."""
    return list(_planned(seed))


def _planned(seed: int) -> Iterator[Planned]:
    for task, own in _OF_TASK.items():
        training = make({"task": task, "seed": seed, **_COMMON, **own}).model_dump(mode="json")
        for model, preset in MODELS.items():
            text = find(preset).read_text(encoding="utf-8")
            spec = {"architecture": text, "training": training, "preset": preset}
            yield Planned(task, model, f"Why hybrids: {model} on {task}", spec)


def submit(seed: int = 0, *, owner: str = _OWNER) -> dict[str, dict[str, str]]:
    """Queue the six runs on one thread each; return their ids by task and model.

    Raises:
        SpecError: a preset cannot be read, or the seed is out of range.
        StoreError: the store cannot be written.
    """
    ids: dict[str, dict[str, str]] = {task: {} for task in TASKS}
    for planned in plan(seed):
        run = submit_run("train", planned.name, planned.spec, threads=1, owner=owner, device="cpu")
        ids[planned.task][planned.model] = run.id
    return ids


def summary(store: Store, ids: Ids) -> dict[str, Any]:
    """Return how the six runs stand, as plain JSON.

    ``tasks`` has each model's accuracy on each task: of the test split where its run is done, else the last validation
    (None before the first); ``states`` and ``captions`` are by task and model too, ``seconds`` from the first start to
    now or the last end, and ``done`` says whether all six are.

    Raises:
        RunError: one of the runs is gone.
    """
    runs = {task: {name: store.get(one) for name, one in of.items()} for task, of in ids.items()}
    every = [run for of in runs.values() for run in of.values()]
    latest = store.latest_metrics([run.id for run in every])
    starts = [run.started for run in every if run.started is not None]
    ends = [run.ended or time.time() for run in every]
    return {
        "seconds": round(max(ends) - min(starts), 1) if starts else 0.0,
        "budget_s": BUDGET_S,
        "done": all(run.state is RunState.DONE for run in every),
        "active": any(run.state.active for run in every),
        "tasks": _each(runs, lambda task, run: _accuracy(task, run, latest.get(run.id, {}))),
        "states": _each(runs, lambda task, run: str(run.state)),
        "captions": _each(runs, lambda task, run: _caption(task, run, latest.get(run.id, {}))),
        "runs": {task: dict(of) for task, of in ids.items()},
    }


def demo(
    seed: int = 0, on_update: Callable[[dict[str, Any]], None] = lambda found: None
) -> dict[str, Any]:
    """Run the demonstration to its end and return its summary; an interrupt cancels what still runs.

    Raises:
        HybridLabError: a run cannot be queued or is gone.
    """
    ids = submit(seed)
    store = open_store()
    try:
        while True:
            ensure_supervisor()
            found = summary(store, ids)
            on_update(found)
            if not found["active"]:
                return found
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        for run in store.list(states={RunState.QUEUED, RunState.RUNNING}, home=home_id()):
            if run.id in {one for of in ids.values() for one in of.values()}:
                cancel(run.id)
        raise


def _each(
    runs: Mapping[str, Mapping[str, Run]], value: Callable[[str, Run], Any]
) -> dict[str, dict[str, Any]]:
    return {task: {name: value(task, run) for name, run in of.items()} for task, of in runs.items()}


def _accuracy(task: str, run: Run, latest: Mapping[str, float]) -> float | None:
    if run.state is RunState.DONE and run.result is not None:
        return float(run.result["metrics"][TASKS[task]])
    return latest.get(TASKS[task].replace("test", "val", 1))


def _caption(task: str, run: Run, latest: Mapping[str, float]) -> str:
    accuracy = _accuracy(task, run, latest)
    percent = "" if accuracy is None else f" at {accuracy:.0%}"
    if run.state is RunState.QUEUED:
        return "waits for a free core"
    if run.state is RunState.RUNNING:
        return f"step {run.step} of {run.steps}{percent}"
    if run.state is not RunState.DONE or run.result is None:
        return f"{str(run.state).lower()}{': ' + run.error if run.error else ''}"
    if accuracy is not None and accuracy >= SOLVED:
        return f"solved in {format_seconds(run.result['seconds'])}"
    return f"budget of {run.result['steps']} steps reached{percent}"
