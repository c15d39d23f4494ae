"""Places the nodes of a graph in layers, top to bottom, with groups as boxes. Geometry only, in pixels, y downwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP_X = 26.0
GAP_Y = 38.0
LANE = 18.0
"""Width kept free beside a layer for an edge that passes it."""


@dataclass(frozen=True)
class Size:
    """How much room a node needs."""

    width: float
    height: float


@dataclass(frozen=True)
class Placed:
    """Where nodes stand (left, top) and where edges run, inside a scope of this size."""

    positions: dict[int, tuple[float, float]]
    routes: dict[tuple[int, int], list[tuple[float, float]]]
    """Points of each edge (source, target) between the source's bottom and the target's top, both exclusive."""
    size: Size


def place(sizes: Sequence[Size], edges: Sequence[tuple[int, int]]) -> Placed:
    """Place nodes in layers so that edges lead downwards; an edge that closes a circle has no say.

    ``sizes[i]`` is node i's room and ``edges`` are (source, target) pairs of positions in that list.
    """
    layer = _layers(len(sizes), edges)
    rows, chains = _rows(sizes, edges, layer)
    centres, width = _columns(rows)
    tops: dict[int, float] = {}
    middles: dict[int, float] = {}
    y = 0.0
    for index, row in enumerate(rows):
        height = max((slot.size.height for slot in row), default=0.0)
        for slot in row:
            if slot.node is not None:
                tops[slot.node] = y + (height - slot.size.height) / 2
        middles[index] = y + height / 2
        y += height + GAP_Y
    positions = {
        slot.node: (centres[id(slot)] - slot.size.width / 2, tops[slot.node])
        for row in rows
        for slot in row
        if slot.node is not None
    }
    heights = {
        index: max((slot.size.height for slot in row), default=0.0) / 2
        for index, row in enumerate(rows)
    }
    routes = {}
    for edge, chain in chains.items():
        xs = [centres[id(slot)] for slot in chain]
        if chain and all(_outermost(slot, rows[slot.layer]) for slot in chain):
            xs = [max(xs)] * len(xs)
        points = []
        for x, slot in zip(xs, chain, strict=True):
            middle, half = middles[slot.layer], heights[slot.layer]
            points += [(x, middle - half), (x, middle + half)]
        routes[edge] = points
    return Placed(positions, routes, Size(width, max(0.0, y - GAP_Y)))


@dataclass(eq=False)
class _Slot:
    """A place in a layer: a node, or room for an edge that passes by."""

    node: int | None
    size: Size
    layer: int
    parents: list[_Slot]


def _outermost(slot: _Slot, row: Sequence[_Slot]) -> bool:
    """Say whether no node stands to the right of this lane."""
    return all(other.node is None for other in row[row.index(slot) :])


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return each node's layer: one below the lowest it reads; circles are cut where they close."""
    reads: Mapping[int, list[int]] = defaultdict(list)
    for source, target in edges:
        reads[target].append(source)
    layer: dict[int, int] = {}
    for start in range(count):
        stack, open_nodes = [start], {start}
        while stack:
            node = stack[-1]
            waiting = [s for s in reads[node] if s not in layer and s not in open_nodes]
            if waiting:
                stack.append(waiting[0])
                open_nodes.add(waiting[0])
                continue
            if node not in layer:
                layer[node] = 1 + max((layer[s] for s in reads[node] if s in layer), default=-1)
            open_nodes.discard(node)
            stack.pop()
    return layer


def _rows(
    sizes: Sequence[Size], edges: Sequence[tuple[int, int]], layer: Mapping[int, int]
) -> tuple[list[list[_Slot]], dict[tuple[int, int], list[_Slot]]]:
    """Fill the layers with nodes, and with lanes for the edges that skip layers."""
    rows: list[list[_Slot]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    slots = [_Slot(node, size, layer[node], []) for node, size in enumerate(sizes)]
    for slot in slots:
        rows[slot.layer].append(slot)
    chains: dict[tuple[int, int], list[_Slot]] = {}
    for source, target in edges:
        above, chain = slots[source], []
        for between in range(layer[source] + 1, layer[target]):
            lane = _Slot(None, Size(LANE, 0), between, [above])
            rows[between].append(lane)
            chain.append(lane)
            above = lane
        slots[target].parents.append(above)
        chains[source, target] = chain
    for index, row in enumerate(rows):
        if index:
            order = {id(slot): place for place, slot in enumerate(rows[index - 1])}
            row.sort(
                key=lambda slot: _middle([order[id(p)] for p in slot.parents if id(p) in order])
            )
    return rows, chains


def _middle(places: list[int]) -> float:
    return sum(places) / len(places) if places else 0.0


def _columns(rows: Sequence[Sequence[_Slot]]) -> tuple[dict[int, float], float]:
    """Return each slot's centre and the whole width; the nodes of all layers share one middle, lanes hang beside."""
    spans: dict[int, tuple[float, float]] = {}
    for row in rows:
        x = 0.0
        ends: dict[int, tuple[float, float]] = {}
        for slot in row:
            ends[id(slot)] = (x, x + slot.size.width)
            x += slot.size.width + GAP_X
        nodes = [ends[id(slot)] for slot in row if slot.node is not None]
        middle = (nodes[0][0] + nodes[-1][1]) / 2 if nodes else 0.0
        spans |= {key: (left - middle, right - middle) for key, (left, right) in ends.items()}
    start = min((left for left, _ in spans.values()), default=0.0)
    end = max((right for _, right in spans.values()), default=0.0)
    return {key: (left + right) / 2 - start for key, (left, right) in spans.items()}, end - start
