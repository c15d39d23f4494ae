"""Profiles an architecture inside a worker: figures, op streams and tables go into the run's folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.errors import RunError, StoreError
from hybridlab.profiling.session import STAGES
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.home import home_id
from hybridlab.runs.profile_request import PROFILE
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store
from hybridlab.workflows.profile import profile_settings
from hybridlab.workflows.profile_inputs import profile_classes, profile_sizes
from hybridlab.workflows.weighted import final_weights
from hybridlab.writing import write_whole

_TABLES = ("components", "by_input", "by_size")
"""What of the figures stays in the folder, and out of the run's record."""


def run(context: RunContext) -> dict[str, Any]:
    """Profile what the run's record describes; return the headline figures.

    The record holds ``architecture`` (YAML text), ``training`` (settings of the step) and ``profile`` with ``steps``
    (how many are timed and profiled) and, where the weights are to be a training's, ``weights_of`` (that run's id).

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or the step went wrong; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        steps, trained = int(record["profile"]["steps"]), record["profile"].get("weights_of")
    except (KeyError, TypeError, ValueError):
        raise RunError(
            "the run's record has no architecture, settings and number of steps"
        ) from None
    architecture = loads(text)
    folder = context.folder / PROFILE
    beside = 0

    def begun(stage: str) -> None:
        nonlocal beside
        reason = context.stop_requested()
        if reason is not None:
            raise Stopped(reason)
        beside = max(beside, others(context))
        context.progress(STAGES.index(stage), len(STAGES))
        print(f"{stage} …", flush=True)

    write_whole(context.folder / "architecture.yaml", text)
    weights = final_weights(str(trained)) if trained else None
    found = profile_settings(
        architecture, settings, steps=steps, weights=weights, folder=folder, on_stage=begun
    )
    if beside:
        runs = "another run was" if beside == 1 else f"{beside} other runs were"
        note = f"{runs} under way on this machine, so times are longer than alone"
        found = replace(found, notes=(note, *found.notes))
    begun("classes")
    classes = profile_classes(
        architecture, settings, weights=weights, on_round=lambda number: begun("classes")
    )
    begun("sizes")
    sizes = profile_sizes(
        architecture, settings, weights=weights, on_size=lambda number: begun("sizes")
    )
    begun("report")
    found = replace(found, by_input=classes, by_size=sizes)
    found.save(folder)
    context.progress(len(STAGES), len(STAGES))
    return {key: value for key, value in found.as_dict().items() if key not in _TABLES}


def others(context: RunContext) -> int:
    """Return how many other runs compute on this machine just now."""
    try:
        active = open_store().active(home_id())
    except StoreError:  # it is only for a note
        return 0
    return sum(1 for run in active if run.id != context.run.id and run.state is RunState.RUNNING)
