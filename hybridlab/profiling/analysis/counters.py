"""What the hardware counted, kernel by kernel: CUPTI's counters, where a trace was recorded with some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridlab.profiling.reading.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


def counters(trace: Trace) -> pd.DataFrame:
    """Return a row for each kernel and counter: kernel, counter, ranges, total, mean, largest.

    The profiler names ranges it cannot tell ``__missing__``; they stay under that name.
    """
    import pandas as pd

    names, of = trace.names, trace.events.name
    long = pd.DataFrame(
        [
            (names[of[found.row]], counter, value)
            for found in trace.counted
            for counter, value in found.counters.items()
        ],
        columns=["kernel", "counter", "value"],
    )
    if not len(long):
        return long
    table = long.groupby(["kernel", "counter"], sort=False)["value"].agg(
        ranges="count", total="sum", mean="mean", largest="max"
    )
    return table.reset_index()
