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
    at = places_of(events.correlation[rows], events.correlation[tree.rows[calls]])
    call = np.where(at == ROOT, ROOT, np.append(calls, ROOT)[at])
    return Launches(rows, call)


def places_of(wanted: Ints, ids: Ints) -> Ints:
    """Return where each wanted id stands among ``ids``, the first place where it stands in several, or -1."""
    if not len(ids) or not len(wanted):
        return np.full(len(wanted), ROOT, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    at = np.minimum(np.searchsorted(ranked, wanted), len(ids) - 1)
    return np.where(ranked[at] == wanted, order[at], ROOT)
