"""Measures in a worker what makes a design's step faster; what was found goes into the run's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hybridlab.architecture.document import loads
from hybridlab.errors import Problem, RunError
from hybridlab.profiling.medians import Median
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.record import json_ready
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.workflows.profile_run import others
from hybridlab.writing import write_whole

PURPOSES: dict[str, dict[str, bool]] = {
    "inference": {"training": False},
    "training": {"training": True},
}
"""What a measurement may be for, and how it is then called."""


class Report(Protocol):
    """What was measured: whether it is applied, its time over the plain one's, whether others kept the machine busy."""

    @property
    def applied(self) -> bool:
        """Whether anything is."""

    @property
    def busy(self) -> bool:
        """Whether others used the machine meanwhile."""

    @property
    def ratio(self) -> Median:
        """Its time over that of the plain step."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""


def measure_in_worker(
    context: RunContext,
    measure: Callable[..., Report],
    file: str,
    purposes: Mapping[str, Mapping[str, bool]] = PURPOSES,
) -> dict[str, Any]:
    """Measure by the run's record, and write what was found and ``beside`` into its folder.

    The last is how many other runs were under way meanwhile, at most. The record holds ``architecture`` (YAML text),
    ``training`` (settings of the step) and ``for``, one of the purposes. Returned is whether it is applied,
    its ratio, and whether the machine was busy.

    Raises:
        Stopped: the run was cancelled or interrupted; nothing of it is kept.
        HybridLabError: the record or the device is not right, or memory ran out; it says how.
    """
    record = context.run.spec
    try:
        text, settings = str(record["architecture"]), dict(record["training"])
        purpose = purposes[record["for"]]
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
        found = measure(loads(text), settings, on_part=begun, **purpose)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = f"of {settings.get('batch')} ran out of memory while it was measured"
        raise RunError(Problem("batch", what, fix="measure a smaller batch")) from None
    content = json_ready({**found.as_dict(), "beside": beside})
    write_whole(context.folder / file, json.dumps(content, allow_nan=False) + "\n")
    return {"applied": found.applied, "ratio": found.ratio.value, "busy": found.busy}
