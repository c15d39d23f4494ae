"""Time by component: which module, or which recorded range, each operator and kernel worked for, backward included.

Components are the calls of modules that a trace with stacks shows (``nn.Module: Linear_3``) and the ranges that a
person recorded with ``record_function``. Their paths are chains of such calls. A backward operator works for the
component of the forward operator that an arrow, or the sequence number of autograd, leads back to; what accumulates
gradients works for the operator whose gradients it adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.backward import backward_sources
from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.analysis.launches import Launches
from hybridlab.profiling.analysis.operators import OperatorTree
from hybridlab.profiling.reading.trace import Floats, Ints, Kind, Mask
from hybridlab.trace.marks import RANGE

SEPARATOR = "/"
OPTIMIZER, COMMUNICATION, DATA, OTHER = "optimizer", "communication", "data loader", "other"
_APART = (OPTIMIZER, COMMUNICATION, DATA)


@dataclass(frozen=True)
class Component:
    """One component, or what is no component's; times in µs, own work only unless said.

    Attributes:
        path: the chain of calls that leads to it, as ``ViTModel_0/ViTEncoder_0``; or optimizer, communication, data
            loader, or other.
        kind: module, range, or phase for the four that are no component.
        calls: forward calls.
        host_us: own host time of the operators in it, both directions.
        device_us, device_backward_us: time of all its kernels, copies and fills, and the part of backward.
        device_total_us: with all components below it.
        host_backward_us: part of ``host_us`` in the backward pass.
    """

    path: str
    kind: str
    calls: int
    host_us: float
    device_us: float
    device_backward_us: float
    device_total_us: float
    host_total_us: float
    host_backward_us: float


@dataclass(frozen=True, eq=False)
class Components:
    """Time by component.

    Attributes:
        attributed: share of the device time (of the operators' host time where nothing ran on a device) that belongs
            to a module or range, 0 to 1; None where there is no time to share out.
        attributed_with_phases: with optimiser, communication and data loading.
        of_host: for each event of the host, the position in ``rows`` of what it works for.
        of_device: the same for each device event of ``Launches``.
    """

    rows: tuple[Component, ...]
    attributed: float | None
    attributed_with_phases: float | None
    of_host: Ints
    of_device: Ints


def components(tree: HostTree, launched: Launches, calls: OperatorTree) -> Components:
    """Share the time of operators and kernels out among components."""
    trace = tree.trace
    events = trace.events
    named = trace.named(naming.is_module)[tree.rows] & (tree.kind == Kind.PYTHON)
    ranges = trace.named(naming.is_component_range)[tree.rows] & (tree.kind == Kind.ANNOTATION)
    marked = named | ranges
    paths, kinds, path_of = _paths(tree, marked, named)
    phase = _phases(tree)
    first_phase = len(paths)
    other = first_phase + len(_APART)

    inner = tree.nearest(marked)
    label = np.where(inner == ROOT, ROOT, path_of[inner])
    source, evaluation = backward_sources(tree)
    from_forward = np.where(source == ROOT, ROOT, label[source])
    backward = evaluation != ROOT
    label = np.where((label == ROOT) & backward, from_forward, label)
    collective = phase == _APART.index(COMMUNICATION)
    label = np.where(
        (label == ROOT) | collective, np.where(phase == ROOT, label, first_phase + phase), label
    )
    label = np.where(label == ROOT, other, label)

    known = launched.call != ROOT
    of_device = np.full(len(launched.rows), other, dtype=np.int64)
    of_device[known] = label[launched.call[known]]
    exchange = trace.named(naming.is_collective_kernel)[launched.rows]
    of_device[exchange] = first_phase + _APART.index(COMMUNICATION)
    in_backward = np.zeros(len(launched.rows), dtype=np.bool_)
    in_backward[known] = backward[launched.call[known]]

    count = other + 1
    device = np.bincount(of_device, events.dur_us[launched.rows], count).astype(np.float64)
    device_backward = np.bincount(
        of_device[in_backward], events.dur_us[launched.rows][in_backward], count
    )
    working = calls.is_operator
    at = label[calls.nodes[working]]
    own = np.maximum(calls.self_us[working], 0.0)
    host = np.bincount(at, own, count).astype(np.float64)
    host_backward = np.bincount(at, own * backward[calls.nodes[working]], count)
    forward = np.flatnonzero(marked & ~backward)
    times = np.bincount(path_of[forward], minlength=count)

    texts = [*paths, *_APART, OTHER]
    kinds = [*kinds, *["phase"] * (len(_APART) + 1)]
    device_total, host_total = (
        _with_below(texts, first_phase, device),
        _with_below(texts, first_phase, host),
    )
    rows = tuple(
        Component(
            texts[i],
            kinds[i],
            int(times[i]),
            float(host[i]),
            float(device[i]),
            float(device_backward[i]),
            float(device_total[i]),
            float(host_total[i]),
            float(host_backward[i]),
        )
        for i in range(count)
    )
    weights = device if trace.has_device else host
    total = float(weights.sum())
    return Components(
        rows,
        float(weights[:first_phase].sum()) / total if total > 0 else None,
        float(weights[:other].sum()) / total if total > 0 else None,
        label,
        of_device,
    )


def _phases(tree: HostTree) -> Ints:
    """Return, for each event of the host, which of ``_APART`` encloses it most closely, or -1."""
    trace = tree.trace
    rules = (naming.is_optimizer, naming.is_collective, naming.is_loading)
    ranges = np.isin(tree.kind, (Kind.OPERATOR, Kind.ANNOTATION))
    kind = np.full(len(tree), ROOT, dtype=np.int64)
    for number, rule in enumerate(rules):
        kind[trace.named(rule)[tree.rows] & ranges] = number
    inner = tree.nearest(kind != ROOT)
    return np.where(inner == ROOT, ROOT, kind[inner])


def _paths(tree: HostTree, marked: Mask, modules: Mask) -> tuple[list[str], list[str], Ints]:
    """Give each call of a component its path; a call that stands alone takes the one known path that ends like it.

    The last happens where a checkpointed block runs again within the backward pass.
    """
    trace = tree.trace
    nodes = np.flatnonzero(marked)
    above = tree.nearest(marked, own=False)[nodes]
    texts = [
        trace.names[i].removeprefix(naming.MODULE).removeprefix(RANGE)
        for i in trace.events.name[tree.rows[nodes]]
    ]
    path_of_node: dict[int, str] = {}
    endings: dict[str, set[str]] = {}
    for node, parent, text in zip(nodes.tolist(), above.tolist(), texts, strict=True):
        path = text if parent == ROOT else f"{path_of_node[parent]}{SEPARATOR}{text}"
        path_of_node[node] = path
        if parent != ROOT and modules[node]:
            endings.setdefault(text, set()).add(path)
    numbers: dict[str, int] = {}
    path_of = np.full(len(tree), ROOT, dtype=np.int64)
    kinds: list[str] = []
    alone = {text: next(iter(found)) for text, found in endings.items() if len(found) == 1}
    for node, path in path_of_node.items():
        head, _, rest = path.partition(SEPARATOR)
        if head in alone and not alone[head].startswith(f"{head}{SEPARATOR}"):
            path = f"{alone[head]}{SEPARATOR}{rest}" if rest else alone[head]
        if path not in numbers:
            numbers[path] = len(numbers)
            kinds.append("module" if modules[node] else "range")
        path_of[node] = numbers[path]
    return list(numbers), kinds, path_of


def _with_below(paths: list[str], count: int, own: Floats) -> Floats:
    """Add to each component the time of those below it."""
    total = own.copy()
    at = {path: i for i, path in enumerate(paths[:count])}
    for path, i in at.items():
        above = path.rpartition(SEPARATOR)[0]
        while above:
            if above in at:
                total[at[above]] += own[i]
            above = above.rpartition(SEPARATOR)[0]
    return total
