"""Measures in a worker what can be fused in a design's model; what was found goes into the run's folder."""

from __future__ import annotations

from typing import Any

from hybridlab.runs.context import RunContext
from hybridlab.workflows.fusion import fuse_training
from hybridlab.workflows.measured_choice import measure_in_worker

FILE = "fusion.json"
"""What a run of kind ``fuse`` leaves in its folder: ``FusionReport.as_dict()`` and ``beside``."""


def run(context: RunContext) -> dict[str, Any]:
    """Find and measure what can be fused, by the run's record; see ``measure_in_worker``.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or memory ran out; it says how.
    """
    return measure_in_worker(context, fuse_training, FILE)
