"""Measures beside a worker what is faster compiled in a design's model; what was found goes into the run's folder."""

from __future__ import annotations

import functools
from typing import Any

from hybridlab.runs.context import RunContext
from hybridlab.workflows.measured_choice import measure_in_worker
from hybridlab.workflows.regions import regions_training

FILE = "regions.json"
"""What a run of kind ``regions`` leaves in its folder: ``RegionsReport.as_dict()`` and ``beside``."""


def run(context: RunContext) -> dict[str, Any]:
    """Compile and measure regions by the run's record; see ``measure_in_worker``. Its log says which is at work.

    Raises:
        Stopped: the run was cancelled or interrupted, a compiler under way with it; nothing of it is kept.
        HybridLabError: the record or the device is not right, there is no compiler, or memory ran out; it says how.
    """
    measure = functools.partial(regions_training, say=functools.partial(print, flush=True))
    return measure_in_worker(context, measure, FILE)
