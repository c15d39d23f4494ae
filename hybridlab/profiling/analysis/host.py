"""What encloses what on the host: one tree of calls per thread, found from times alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybridlab.profiling.reading.trace import HOST, Floats, Ints, Kind, Mask, Trace

ROOT = -1


@dataclass(frozen=True, eq=False)
class HostTree:
    """The events of the host, ordered by thread, then start, then the longer one first.

    Attributes:
        rows: position of each in ``Trace.events``.
        parent: position in this tree of what encloses it, or -1.
        crossing: how many events overlap another one of their thread without lying within it.
    """

    trace: Trace
    rows: Ints
    parent: Ints
    crossing: int

    def __len__(self) -> int:
        """Return the number of events of the host."""
        return len(self.rows)

    @cached_property
    def kind(self) -> Ints:
        """Kind of each."""
        return self.trace.events.kind[self.rows].astype(np.int64)

    @cached_property
    def start_us(self) -> Floats:
        """Start of each."""
        return self.trace.events.start_us[self.rows]

    @cached_property
    def end_us(self) -> Floats:
        """End of each."""
        return self.trace.events.end_us[self.rows]

    @cached_property
    def thread(self) -> Ints:
        """Thread of each."""
        return self.trace.events.thread[self.rows].astype(np.int64)

    @cached_property
    def position(self) -> Ints:
        """Position in this tree of each event of the trace, or -1."""
        at = np.full(len(self.trace.events), ROOT, dtype=np.int64)
        at[self.rows] = np.arange(len(self.rows))
        return at

    def nearest(self, marked: Mask, own: bool = True) -> Ints:
        """Return, for each event, the innermost marked one that encloses it (or is it), or -1."""
        return nearest(self.parent, marked, own)

    def innermost_at(self, threads: Ints, moments_us: Floats) -> Ints:
        """Return the innermost event that runs on each thread at each moment, or -1."""
        found = np.full(len(threads), ROOT, dtype=np.int64)
        for thread in np.unique(threads).tolist():
            begin, end = self._slices.get(thread, (0, 0))
            asked = np.flatnonzero(threads == thread)
            starts = self.start_us[begin:end]
            at = begin + np.searchsorted(starts, moments_us[asked], side="right") - 1
            found[asked] = np.where(at < begin, ROOT, at)
        late = np.flatnonzero(found != ROOT)
        while len(late):
            late = late[self.end_us[found[late]] < moments_us[late]]
            found[late] = self.parent[found[late]]
            late = late[found[late] != ROOT]
        return found

    @cached_property
    def _slices(self) -> dict[int, tuple[int, int]]:
        if not len(self):
            return {}
        firsts = np.flatnonzero(np.diff(self.thread, prepend=-1))
        lasts = np.append(firsts[1:], len(self))
        return {
            int(self.thread[first]): (int(first), int(last))
            for first, last in zip(firsts, lasts, strict=True)
        }


def host_tree(trace: Trace) -> HostTree:
    """Order the events of the host and find what encloses each.

    A call of the runtime that names its operator (``External id``) belongs to that one where it starts within it, also
    where both start in the same microsecond.
    """
    events = trace.events
    rows = events.of(*HOST)
    launches = events.kind[rows] == Kind.RUNTIME
    order = np.lexsort((launches, -events.end_us[rows], events.start_us[rows], events.thread[rows]))
    rows = rows[order]
    start, end, thread = events.start_us[rows], events.end_us[rows], events.thread[rows]
    parent = _enclosing(start, end, thread)
    crossing = _crossing(parent, start, end, thread)
    _adopt(trace, rows, parent)
    return HostTree(trace, rows, parent, crossing)


def _enclosing(start: Floats, end: Floats, thread: Ints) -> Ints:
    """Return what encloses each of the ordered ranges.

    The candidate is the range before; one that ends too early hands on to its own candidate. All ranges do so at once,
    and since candidates jump together their number halves: a few dozen rounds, whatever the depth.
    """
    count = len(start)
    first = np.zeros(count, dtype=np.int64)
    new = np.flatnonzero(np.diff(thread, prepend=-1))
    first[new] = new
    first = np.maximum.accumulate(first)
    parent = np.arange(-1, count - 1)
    parent[parent < first] = ROOT
    active = np.flatnonzero(parent != ROOT)
    while len(active):
        candidate = parent[active]
        outside = (end[candidate] < end[active]) | (end[candidate] <= start[active])
        active, candidate = active[outside], candidate[outside]
        parent[active] = parent[candidate]
        active = active[parent[active] != ROOT]
    return parent


def _crossing(parent: Ints, start: Floats, end: Floats, thread: Ints) -> int:
    """Count ranges that begin before the one next to them, under the same parent, has ended."""
    order = np.lexsort((np.arange(len(parent)), parent, thread))
    siblings = (parent[order][1:] == parent[order][:-1]) & (thread[order][1:] == thread[order][:-1])
    return int(np.count_nonzero(siblings & (start[order][1:] < end[order][:-1])))


def _adopt(trace: Trace, rows: Ints, parent: Ints) -> None:
    """Hand calls of the runtime to the operator they name, where they start while it runs."""
    events = trace.events
    kind, external = events.kind[rows], events.external[rows]
    owners = np.flatnonzero(((kind == Kind.OPERATOR) | (kind == Kind.ANNOTATION)) & (external > 0))
    calls = np.flatnonzero((kind == Kind.RUNTIME) & (external > 0))
    if not len(owners) or not len(calls):
        return
    ids, firsts = np.unique(external[owners], return_index=True)
    at = np.minimum(np.searchsorted(ids, external[calls]), len(ids) - 1)
    owner = owners[firsts[at]]
    start, thread = events.start_us[rows], events.thread[rows]
    fits = (
        (ids[at] == external[calls])
        & (thread[owner] == thread[calls])
        & (start[owner] <= start[calls])
        & (start[calls] <= events.end_us[rows][owner])
    )
    moved = calls[fits & (kind[np.maximum(parent[calls], 0)] != Kind.RUNTIME)]
    parent[moved] = owner[fits & (kind[np.maximum(parent[calls], 0)] != Kind.RUNTIME)]


def nearest(parent: Ints, marked: Mask, own: bool = True) -> Ints:
    """Return the nearest marked ancestor of each node, itself included if ``own``, or -1."""
    count = len(parent)
    root = count
    up = np.where(parent == ROOT, root, parent)
    jump = np.append(np.where(marked, np.arange(count), up), root)
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            break
        jump = further
    found = jump[:count] if own else jump[up]
    return np.where(found == root, ROOT, found)


def depths(parent: Ints) -> Ints:
    """Return how many ancestors each node has."""
    count = len(parent)
    up = np.append(np.where(parent == ROOT, count, parent), count)
    far = np.append(np.where(parent == ROOT, 0, 1), 0)
    while True:
        further = far + far[up]
        if np.array_equal(further, far):
            return np.asarray(further[:count])
        far, up = further, up[up]


def add_up(parent: Ints, values: Iterable[Floats]) -> list[Floats]:
    """Return, for each quantity, the sum over each node and everything below it."""
    totals = [value.copy() for value in values]
    depth = depths(parent)
    order = np.argsort(depth, kind="stable")
    edges = np.searchsorted(depth[order], np.arange(1, int(depth.max(initial=0)) + 2))
    for level in range(len(edges) - 1, 0, -1):
        nodes = order[edges[level - 1] : edges[level]]
        for total in totals:
            np.add.at(total, parent[nodes], total[nodes])
    return totals
