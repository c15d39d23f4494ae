"""How long a trial's design takes on this machine once it has trained: its step, and a pass forward of one sample.

Both are timed in a quiet turn: the other trials of the home that are timed too wait between two of their steps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.hardware.devices import choose
from hybridlab.hardware.others import BUSY_CORES, Others
from hybridlab.planning.turns import FEWEST_ROUNDS, ROUNDS, run_ms
from hybridlab.profiling.medians import Median, median
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.home import home
from hybridlab.runs.quiet import QuietTurns
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep
from hybridlab.training.defaults import task_of
from hybridlab.training.precision import numerics
from hybridlab.training.result import WEIGHTS
from hybridlab.training.spec import make
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.profile import built, training_step

SECONDS = 2.0
"""A step, and a pass, are timed for so long, but seven times at least and twenty-one times at most."""
_WARM = 2


def turns_for(device: str) -> QuietTurns:
    """Return the turns on a device, by its setting, that the timed trials of this home keep to."""
    return QuietTurns(home() / "cache", str(choose(device)))


def time_trial(context: RunContext, turns: QuietTurns, wanted: Collection[str]) -> dict[str, Any]:
    """Return medians of a trained design's step and pass forward, by the record and the weights in the run's folder.

    The step is the training's, without making its batch, with its plan, precision and fusion; the pass is one sample of
    the task in evaluation mode. ``wanted`` are objectives of ``landscape.TIMED``; beside them stand ``step`` and
    ``latency`` with their intervals, a sample's positions, the threads, whether the turn was quiet, and how many cores
    others used.

    Raises:
        Stopped: the run was cancelled or interrupted.
        HybridLabError: the record or the weights are not right; it says how.
    """
    record = context.run.spec
    spec = make(dict(record["training"]))
    task = task_of(spec)
    weights = context.folder / WEIGHTS
    fitted = fit(loads(str(record["architecture"])), task)
    model = built(fitted, task, spec, weights if weights.exists() else None)
    as_trained(model, spec)
    step = training_step(model, task, spec)
    one = tuple(inputs[:1] for inputs in step.inputs)
    forward = TrainingStep(model, one, loss=None, around=numerics(spec).autocast)

    def stopped() -> bool:
        return context.stop_requested() is not None

    found: dict[str, Any] = {}
    with turns.alone(stopped) as quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = Others()
        if {"measured_step_ms", "measured_tokens_per_s"} & set(wanted):
            took = _timed(context, step)
            found["step"] = vars(took)
            found["measured_step_ms"] = took.value
            found["measured_tokens_per_s"] = 1e3 * spec.batch * task.length / took.value
        if "measured_latency_ms" in wanted:
            model.eval()
            took = _timed(context, forward)
            found["latency"] = vars(took)
            found["measured_latency_ms"] = took.value
        cores = others.cores()
    found |= {"positions": task.length, "threads": torch.get_num_threads()}
    found |= {"quiet": quiet, "others_cores": cores}
    for name in wanted:
        beside = "" if quiet and cores <= BUSY_CORES else "; the machine was not quiet"
        print(f"{name} {found[name]:.4g}{beside}", flush=True)
    return found


def seconds_of(step_s: float) -> float:
    """Return about how long it takes to time a step, or a pass, of so many seconds."""
    rounds = min(float(ROUNDS), max(float(FEWEST_ROUNDS), SECONDS / max(step_s, 1e-6)))
    return (rounds + _WARM) * step_s


def _timed(context: RunContext, step: TrainingStep) -> Median:
    """Return the median of the milliseconds that a step takes."""
    times: list[float] = []
    began = time.monotonic()
    for turn in range(_WARM + ROUNDS):
        if (reason := context.stop_requested()) is not None:
            raise Stopped(reason)
        took = run_ms(step)
        times += [took] if turn >= _WARM else []
        if len(times) >= FEWEST_ROUNDS and time.monotonic() - began > SECONDS:
            break
    return median(times)
