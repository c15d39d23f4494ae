"""Which call of the host started what ran on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.reading.trace import DEVICE, Ints, Kind


@dataclass(frozen=True, eq=False)
class Launches:
    """Device events with the call that started each.

    Attributes:
        rows: positions in ``Trace.events`` of kernels, copies and fills.
        call: position of the call in the tree of the host, or -1 where it was not recorded.
    """

    rows: Ints
    call: Ints


def launches(tree: HostTree) -> Launches:
    """Join device events to calls of the runtime by their correlation id."""
    events = tree.trace.events
    rows = events.of(*DEVICE)
    calls = np.flatnonzero((tree.kind == Kind.RUNTIME) & (events.correlation[tree.rows] > 0))
    call = np.full(len(rows), ROOT, dtype=np.int64)
    if len(calls) and len(rows):
        ids = events.correlation[tree.rows[calls]]
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        wanted = events.correlation[rows]
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        call = np.where(ids[at] == wanted, calls[order][at], ROOT)
    return Launches(rows, call)
