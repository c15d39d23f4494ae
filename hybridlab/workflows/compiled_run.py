"""Measures in a worker a design's step under PyTorch's own memory budget; the figures go into the run's folder."""

from __future__ import annotations

import json
import time
from typing import Any

from hybridlab.errors import RunError
from hybridlab.planning.compared import SHARES
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.workflows.compiled import compare_compiled
from hybridlab.workflows.profile_run import others
from hybridlab.writing import write_whole

FILE = "compiled.json"
"""What a run of kind ``compile`` leaves in its folder: ``Compared.as_dict()`` and ``beside``.

The last is how many other runs were under way meanwhile, at most."""
_LOOK_S = 1.0


def run(context: RunContext) -> dict[str, Any]:
    """Compile and measure the step of the run's record; return the points that were found.

    The record holds ``architecture`` (YAML text), ``training`` (settings of the step) and, where they are not the
    usual ones, ``shares``.

    Raises:
        Stopped: the run was cancelled or interrupted, a compiler under way with it; nothing of it is kept.
        HybridLabError: the record or the device is not right, or nothing could be compiled; it says why.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        shares = tuple(float(share) for share in record.get("shares") or SHARES)
    except (KeyError, TypeError, ValueError):
        raise RunError("the run's record has no architecture and settings") from None
    beside, looked = 0, 0.0

    def begun(done: int, parts: int) -> None:
        nonlocal beside, looked
        reason = context.stop_requested()
        if reason is not None:
            raise Stopped(reason)
        if time.monotonic() > looked + _LOOK_S:
            looked, beside = time.monotonic(), max(beside, others(context))
        context.progress(done, parts)

    write_whole(context.folder / "architecture.yaml", text)
    found = compare_compiled(
        text, settings, shares=shares, threads=context.run.threads, on_part=begun
    )
    content = {**found.as_dict(), "beside": beside}
    write_whole(context.folder / FILE, json.dumps(content, allow_nan=False) + "\n")
    return {"points": [one.model_dump(mode="json") for one in found.points]}
