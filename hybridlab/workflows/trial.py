"""One trial of a search inside a worker: a training that is compared with the study's others as it goes."""

from __future__ import annotations

from typing import Any

from hybridlab.errors import HybridLabError, RunError
from hybridlab.runs.context import RunContext
from hybridlab.workflows import train

KIND = "search"
"""What kind of run a trial is."""


def run(context: RunContext) -> dict[str, Any]:
    """Train a trial's architecture as ``workflows.train`` does; return its result.

    The record's ``search`` holds ``study``, ``trial`` (its number), ``metric``, ``eta`` and ``rungs``, the steps after
    which the training is compared with the others of the study; where it is not among the best ``1/eta`` it stops, and
    the result says so in ``stopped_after``. A study that cannot be reached stops nobody. ``timed`` are objectives that
    are timed of a design that has trained to its end, into the result's ``times``; while that goes on for one trial of
    this home, the others wait.

    Raises:
        Stopped: the run was cancelled or interrupted; its checkpoint is written.
        HybridLabError: the record, the data or the device is not right, or training went wrong; it says how.
    """
    try:
        about = dict(context.run.spec["search"])
        study, number = str(about["study"]), int(about["trial"])
        metric, eta = str(about["metric"]), int(about["eta"])
        rungs = {int(step) for step in about["rungs"]}
        timed = tuple(map(str, about.get("timed") or ()))
    except (KeyError, TypeError, ValueError):
        raise RunError("the run's record does not say of which trial it is") from None

    def enough(step: int, metrics: dict[str, float]) -> bool:
        if step not in rungs or metric not in metrics:
            return False
        return not _goes_on(study, number, step, metrics[metric], eta)

    if not timed:
        return _told(train.run(context, enough))
    from hybridlab.workflows.trial_times import time_trial, turns_for

    def stopped() -> bool:
        return context.stop_requested() is not None

    turns = turns_for(str(dict(context.run.spec["training"]).get("device", "auto")))
    with turns.working(stopped):
        result = _told(train.run(context, enough, lambda step: turns.give_way(stopped)))
        if "stopped_after" not in result:
            result["times"] = time_trial(context, turns, timed)
    return result


def _told(result: dict[str, Any]) -> dict[str, Any]:
    """Return a training's result with how far it went where it was stopped."""
    if result["stop_reason"] == "cancel":
        result["stopped_after"] = result["steps"]
    return result


def _goes_on(study: str, number: int, step: int, value: float, eta: int) -> bool:
    """Compare a trial with the others; a study that is away just now stops nobody."""
    # Optuna is imported where it is needed: a worker that stands ready should not wait for it.
    from hybridlab.search.drive import AWAY
    from hybridlab.search.halving import judge
    from hybridlab.search.places import opened
    from hybridlab.search.study import close

    try:
        asked = opened(study)
        try:
            on = judge(asked, number, step, value, eta)
        finally:
            close(asked)
    except (*AWAY, HybridLabError, KeyError) as error:
        print(f"step {step:,}: the study cannot be asked, going on: {error}", flush=True)
        return True
    words = "goes on" if on else "others were better, stops"
    print(f"step {step:,}: {value:.4g}, {words}", flush=True)
    return on
