"""Measures in a worker which components may compute in another format; what was found goes into the run's folder."""

from __future__ import annotations

import functools
from typing import Any

from hybridlab.errors import RunError
from hybridlab.runs.context import RunContext
from hybridlab.workflows.measured_choice import PURPOSES, measure_in_worker
from hybridlab.workflows.precision import measure_precisions

FILE = "precisions.json"
"""What a run of kind ``precision`` leaves in its folder: ``PrecisionReport.as_dict()`` and ``beside``."""
_OPTIONS = ("format", "tolerance", "loss_tolerance")


def run(context: RunContext) -> dict[str, Any]:
    """Measure by the run's record, whose ``options`` are those of ``measure_precisions``; see ``measure_in_worker``.

    It may also be for ``"memory"``.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or memory ran out; it says how.
    """
    options = context.run.spec.get("options") or {}
    if not isinstance(options, dict) or set(options) - set(_OPTIONS):
        raise RunError("the run's record has options that are none")
    measure = functools.partial(measure_precisions, **options)
    purposes = {**PURPOSES, "memory": {"training": True, "memory": True}}
    return measure_in_worker(context, measure, FILE, purposes)
