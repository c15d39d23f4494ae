"""What most analyses of a trace start from, found once: the tree of calls, the launches, the components."""

from __future__ import annotations

from dataclasses import dataclass

from hybridlab.profiling.analysis.communication import collective_kernels
from hybridlab.profiling.analysis.components import Components, components
from hybridlab.profiling.analysis.host import HostTree, host_tree
from hybridlab.profiling.analysis.launches import Launches, launches
from hybridlab.profiling.analysis.operators import OperatorTree, operator_tree
from hybridlab.profiling.reading.trace import Mask, Trace


@dataclass(frozen=True, eq=False)
class Groundwork:
    """A trace with what encloses and launches what, and whose it is.

    Attributes:
        collective: for every event, whether it is a kernel of a collective operation.
    """

    trace: Trace
    tree: HostTree
    launched: Launches
    calls: OperatorTree
    shared: Components
    collective: Mask


def groundwork(trace: Trace) -> Groundwork:
    """Find what encloses and launches what in a trace."""
    tree = host_tree(trace)
    launched = launches(tree)
    calls = operator_tree(tree, launched)
    shared = components(tree, launched, calls)
    return Groundwork(trace, tree, launched, calls, shared, collective_kernels(tree, launched))
