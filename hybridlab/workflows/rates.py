"""Finds a learning rate for an architecture on a task: from the command line, or inside a worker for the Train page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import RunError
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.rate_curve import RateCurve
from hybridlab.training.rate_finder import HIGHEST, LOWEST, STEPS, find_rate
from hybridlab.writing import write_whole

FILE = "rates.json"
"""What a run of kind ``lr_find`` leaves in its folder: ``RateCurve.as_dict``."""


def find_rates(
    architecture: Architecture,
    settings: Mapping[str, Any],
    *,
    group: str = "",
    steps: int = STEPS,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    on_step: Callable[[int, int], object] = lambda done, steps: None,
) -> RateCurve:
    """Run a range test from the weights and on the batches that a training with these settings would begin with.

    Raises:
        SpecError: the architecture, a setting or the group is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device, or the batch does not fit into its memory.
        RunError: the loss is not finite from the first steps on.
    """
    task, spec = prepare(settings)
    model = build(fit(architecture, task), task.input_type(), seed=spec.seed)
    return find_rate(
        model,
        task,
        spec,
        group=group,
        steps=steps,
        lowest=lowest,
        highest=highest,
        on_step=on_step,
    )


def run(context: RunContext) -> dict[str, Any]:
    """Run the range test that the run's record describes; return its suggestion.

    The record holds ``architecture`` (YAML text), ``training`` (settings) and ``lr_find`` with ``group`` (empty for
    all) and, where they are not the usual ones, ``steps``, ``lowest`` and ``highest``.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record, the group or the device is not right; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        asked = dict(record["lr_find"])
        group, steps = str(asked.pop("group", "")), int(asked.pop("steps", STEPS))
        lowest, highest = float(asked.pop("lowest", LOWEST)), float(asked.pop("highest", HIGHEST))
        if asked:
            raise ValueError(f"unknown: {', '.join(asked)}")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunError(
            "the run's record has no architecture, settings and range of rates"
        ) from None

    def stepped(done: int, steps: int) -> None:
        reason = context.stop_requested()
        if reason is not None:
            raise Stopped(reason)
        context.progress(done, steps)

    context.progress(0, 2 * steps)
    found = find_rates(
        loads(text),
        settings,
        group=group,
        steps=steps,
        lowest=lowest,
        highest=highest,
        on_step=stepped,
    )
    write_whole(context.folder / FILE, json.dumps(found.as_dict(), allow_nan=False) + "\n")
    return {
        name: getattr(found, name)
        for name in ("group", "suggestion", "steepest", "lowest", "diverged", "reason")
    }
