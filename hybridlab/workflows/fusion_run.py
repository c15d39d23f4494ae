"""Measures in a worker what can be fused in a design's model; what was found goes into the run's folder."""

from __future__ import annotations

import json
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.errors import Problem, RunError
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.record import json_ready
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.workflows.fusion import fuse_training
from hybridlab.workflows.profile_run import others
from hybridlab.workflows.train import write_whole

FILE = "fusion.json"
"""What a run of kind ``fuse`` leaves in its folder: ``FusionReport.as_dict()`` and ``beside``.

The last is how many other runs were under way meanwhile, at most."""


def run(context: RunContext) -> dict[str, Any]:
    """Find and measure what can be fused, by the run's record; return whether it is applied, and its ratio.

    The record holds ``architecture`` (YAML text), ``training`` (settings of the step) and ``for``, ``"inference"`` or
    ``"training"``.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or memory ran out; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        training = {"inference": False, "training": True}[record["for"]]
    except (KeyError, TypeError, ValueError):
        raise RunError("the run's record has no architecture, settings and purpose") from None
    beside = 0

    def begun(done: int, parts: int) -> None:
        nonlocal beside
        reason = context.stop_requested()
        if reason is not None:
            raise Stopped(reason)
        beside = max(beside, others(context))
        context.progress(done, parts)

    write_whole(context.folder / "architecture.yaml", text)
    try:
        found = fuse_training(loads(text), settings, training=training, on_part=begun)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = f"of {settings.get('batch')} ran out of memory while it was measured"
        raise RunError(Problem("batch", what, fix="measure a smaller batch")) from None
    content = json_ready({**found.as_dict(), "beside": beside})
    write_whole(context.folder / FILE, json.dumps(content, allow_nan=False) + "\n")
    return {"applied": found.applied, "ratio": found.ratio.value, "busy": found.busy}
