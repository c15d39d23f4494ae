"""The table of operators: how often, how long on the host, and how long what they launched ran."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.host import ROOT, HostTree, add_up
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.reading.trace import Floats, Ints, Kind, Mask


@dataclass(frozen=True)
class Operator:
    """All calls of one operator; times in µs.

    Attributes:
        host_us: time of its calls, with what they called.
        host_self_us: without the operators and the runtime they called.
        device_us: time of all that it and its callees launched.
        device_self_us: time of what it launched itself.
        matrix_us: part of ``device_self_us`` in kernels that use tensor cores.
    """

    name: str
    calls: int
    host_us: float
    host_self_us: float
    device_us: float
    device_self_us: float
    matrix_us: float


@dataclass(frozen=True, eq=False)
class OperatorTree:
    """Calls of operators, as ``HostTree`` without what is not one; a call of the same name alone in another is one.

    Attributes:
        nodes: positions in the tree of the host.
        owner: for each event of the host, position in ``nodes`` of the operator call it belongs to, or -1.
        self_us: host time of each, without those below it and the runtime.
        device_self_us, device_us: device time of what each launched, alone and with those below it.
    """

    nodes: Ints
    owner: Ints
    is_operator: Mask
    self_us: Floats
    device_self_us: Floats
    device_us: Floats
    matrix_us: Floats


def operator_tree(tree: HostTree, launched: Launches) -> OperatorTree:
    """Reduce the tree of the host to operators and the ranges that stand among them."""
    trace = tree.trace
    events = trace.events
    names = events.name[tree.rows]
    stands = trace.named(_stands_among_operators)[tree.rows]
    member = (tree.kind == Kind.OPERATOR) | ((tree.kind == Kind.ANNOTATION) & stands)
    member |= (tree.kind == Kind.PYTHON) & trace.named(naming.is_module)[tree.rows]
    above = tree.nearest(member, own=False)
    member &= ~_repeats(tree, member, above, names)
    above = tree.nearest(member, own=False)
    own = tree.nearest(member)
    nodes = np.flatnonzero(member)
    at = np.full(len(tree) + 1, ROOT, dtype=np.int64)
    at[nodes] = np.arange(len(nodes))
    parent, owner = at[above[nodes]], at[own]

    length = events.dur_us[tree.rows]
    self_us = length[nodes].copy()
    inner = parent != ROOT
    np.subtract.at(self_us, parent[inner], length[nodes][inner])
    outer_call = (tree.kind == Kind.RUNTIME) & (
        tree.nearest(tree.kind == Kind.RUNTIME, own=False) == ROOT
    )
    calls = np.flatnonzero(outer_call & (owner != ROOT))
    np.subtract.at(self_us, owner[calls], length[calls])

    device, matrix = np.zeros(len(nodes)), np.zeros(len(nodes))
    known = np.flatnonzero(launched.call != ROOT)
    to = owner[launched.call[known]]
    known, to = known[to != ROOT], to[to != ROOT]
    rows = launched.rows[known]
    np.add.at(device, to, events.dur_us[rows])
    on_matrix = trace.named(naming.uses_matrix_cores)[rows] & (events.kind[rows] == Kind.KERNEL)
    np.add.at(matrix, to, events.dur_us[rows] * on_matrix)
    (total,) = add_up(parent, [device])
    shown = (tree.kind[nodes] == Kind.OPERATOR) & trace.named(naming.is_operator)[tree.rows[nodes]]
    return OperatorTree(nodes, owner, shown, self_us, device, total, matrix)


def operators(tree: HostTree, found: OperatorTree) -> tuple[Operator, ...]:
    """Sum the calls of each operator; the one with the most device time, or else host time, comes first."""
    trace = tree.trace
    pick = np.flatnonzero(found.is_operator)
    rows = tree.rows[found.nodes[pick]]
    names, group = np.unique(trace.events.name[rows], return_inverse=True)

    def total(values: Floats) -> list[float]:
        sums: list[float] = np.bincount(group, weights=values, minlength=len(names)).tolist()
        return sums

    columns = zip(
        (trace.names[name] for name in names),
        np.bincount(group, minlength=len(names)).tolist(),
        total(trace.events.dur_us[rows]),
        total(found.self_us[pick]),
        total(found.device_us[pick]),
        total(found.device_self_us[pick]),
        total(found.matrix_us[pick]),
        strict=True,
    )
    table = [Operator(*row) for row in columns]
    return tuple(sorted(table, key=lambda o: (-o.device_self_us, -o.host_self_us, o.name)))


def _stands_among_operators(name: str) -> bool:
    return (
        naming.is_step(name)
        or naming.is_loading(name)
        or naming.is_collective(name)
        or naming.is_optimizer_step(name)
    )


def _repeats(tree: HostTree, member: Mask, above: Ints, names: Ints) -> Mask:
    """Return which members are the only one within an operator of the same name."""
    children = np.bincount(above[member & (above != ROOT)], minlength=len(tree))
    inside = member & (above != ROOT) & (tree.kind == Kind.OPERATOR)
    up = np.maximum(above, 0)
    alone = (children[up] == 1) & (tree.kind[up] == Kind.OPERATOR) & (names[up] == names)
    return np.asarray(inside & alone)
