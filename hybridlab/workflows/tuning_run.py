"""Measures in a worker in which ways a design's components are fastest; what was found goes into the run's folder."""

from __future__ import annotations

import functools
from typing import Any

from hybridlab.runs.context import RunContext
from hybridlab.workflows.measured_choice import measure_in_worker
from hybridlab.workflows.tuning import tune_training

FILE = "tuning.json"
"""What a run of kind ``tune`` leaves in its folder: ``TuningReport.as_dict()`` and ``beside``."""


def run(context: RunContext) -> dict[str, Any]:
    """Measure chunks and layouts of each component, of hand-overs and of the whole; see ``measure_in_worker``.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or memory ran out; it says how.
    """
    return measure_in_worker(context, functools.partial(tune_training, hand_overs=True), FILE)
