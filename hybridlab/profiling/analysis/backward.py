"""Which forward operator each part of the backward pass belongs to."""

from __future__ import annotations

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.host import ROOT, HostTree
from hybridlab.profiling.reading.trace import Ints, Kind


def backward_sources(tree: HostTree) -> tuple[Ints, Ints]:
    """Return, for each event of the host, the forward event it is the backward of, and the evaluation it is part of.

    Both are positions in the tree, or -1. An evaluation is one node of autograd's graph
    (``autograd::engine::evaluate_function``); all that runs in it shares its source.
    """
    trace = tree.trace
    named = trace.named(lambda name: name.startswith(naming.EVALUATE))
    nodes = named[tree.rows] & (tree.kind == Kind.OPERATOR)
    evaluation = tree.nearest(nodes)
    source = np.full(len(tree), ROOT, dtype=np.int64)
    if not nodes.any():
        return source, evaluation
    _by_sequence(tree, nodes, source)
    _by_arrows(tree, evaluation, source)
    _accumulations(tree, nodes, source)
    return np.where(evaluation == ROOT, ROOT, source[evaluation]), evaluation


def _by_arrows(tree: HostTree, evaluation: Ints, source: Ints) -> None:
    links = tree.trace.links
    ends = tree.innermost_at(links.backward_thread, links.backward_us)
    begins = tree.innermost_at(links.forward_thread, links.forward_us)
    nodes = np.where(ends == ROOT, ROOT, evaluation[ends])
    both = (nodes != ROOT) & (begins != ROOT)
    source[nodes[both]] = begins[both]


def _by_sequence(tree: HostTree, nodes: Ints, source: Ints) -> None:
    """Join by the sequence number: the last forward operator with a number made the node that carries it."""
    events = tree.trace.events
    sequence = events.sequence[tree.rows]
    forward_thread = events.forward_thread[tree.rows]
    makers = np.flatnonzero(
        (tree.kind == Kind.OPERATOR) & (sequence >= 0) & (forward_thread <= 0) & ~nodes
    )
    users = np.flatnonzero(nodes & (sequence >= 0))
    if not len(makers) or not len(users):
        return
    makers = makers[np.lexsort((tree.start_us[makers], sequence[makers]))]
    numbers = sequence[makers]
    at = np.searchsorted(numbers, sequence[users], side="right") - 1
    fits = (at >= 0) & (numbers[np.maximum(at, 0)] == sequence[users])
    source[users[fits]] = makers[at[fits]]


def _accumulations(tree: HostTree, nodes: Ints, source: Ints) -> None:
    """Let the accumulation of a gradient follow the evaluation before it on its thread, which made the gradient."""
    trace = tree.trace
    adds = trace.named(lambda name: name == naming.ACCUMULATE)[tree.rows]
    order = np.flatnonzero(nodes)
    own = np.where(adds[order], ROOT, order)
    last = np.maximum.accumulate(own)
    follows = adds[order] & (last != ROOT) & (source[order] == ROOT)
    same = tree.thread[order] == tree.thread[np.maximum(last, 0)]
    picked = follows & same
    source[order[picked]] = source[last[picked]]
