"""Where each piece of memory lies in one buffer: greedy placements in several orders, the best of them improved.

Placing in order at the lowest free offset reaches the optimum for some order, so a search over orders is a search over
all placements (https://arxiv.org/abs/2001.03288 has the greedy orders by size and by breadth).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridlab.planning.arena.lifetimes import Lifetimes, Numbers

ALIGNMENT_BYTES = 64
"""What torch's own allocator keeps to on a CPU; kernels may then read as they do from its tensors."""
SEARCH_SECONDS = 0.25
_ROUNDS = 2_000
_SMALL = 64
"""A piece below this part of the bound waits until the large ones lie."""
_MANY = 48
"""From more neighbours on, a piece is placed by whole columns, which is then faster."""
_SIDEWAYS, _EARLIER = 0.3, 0.8
"""How often a move takes a neighbour of a piece at the top, and how often it puts it further to the front."""


@dataclass(frozen=True)
class Placement:
    """Offsets in bytes into one buffer of ``arena_bytes``, and how they were found."""

    offsets: tuple[int, ...]
    arena_bytes: int
    bound_bytes: int
    separate_bytes: int
    method: str

    @property
    def over_bound(self) -> float:
        """The share by which the buffer is larger than the bound."""
        return self.arena_bytes / self.bound_bytes - 1 if self.bound_bytes else 0.0


def place(
    pieces: Lifetimes, *, seconds: float = SEARCH_SECONDS, rounds: int = _ROUNDS, seed: int = 0
) -> Placement:
    """Place pieces so that those needed at once never overlap: the best greedy placement, then improved.

    The improvement first moves the large pieces among themselves, which decide most, then all.

    Args:
        pieces: what is placed; offsets are multiples of ``ALIGNMENT_BYTES``.
        seconds: the longest that the improvement may take; 0 leaves the best greedy one.
        rounds: the most placements it tries. Where these are reached first, the result is the same every time.
        seed: of its random moves.
    """
    space = _Space(pieces)
    method, order = "nothing to place", list[int]()
    best: tuple[list[int], int] | None = None
    for name, tried in greedy_orders(pieces).items():
        found = space.lay(tried)
        if best is None or found[1] < best[1]:
            order, best, method = tried, found, f"greedy by {name}"
        if best[1] <= space.bound:
            break
    assert best is not None
    search = _Search(random.Random(seed), time.perf_counter() + seconds, rounds)
    greedy_bytes = best[1]
    if greedy_bytes > space.bound and seconds > 0:
        large = [i for i in order if space.sizes[i] * _SMALL >= space.bound]
        if len(large) < len(order):
            part = Lifetimes(pieces.bytes[large], pieces.first[large], pieces.last[large])
            moved, _ = search.improve(_Space(part), list(range(len(large))))
            kept = set(large)
            tried = [*(large[i] for i in moved), *(i for i in order if i not in kept)]
            found = space.lay(tried)
            if found[1] < best[1]:
                order, best = tried, found
        _, found = search.improve(space, order)
        best = min(best, found, key=lambda laid: laid[1])
    if best[1] < greedy_bytes:
        method += ", improved"
    return _placement(pieces, *best, method)


def place_in_order(pieces: Lifetimes, order: Sequence[int], method: str = "given") -> Placement:
    """Place pieces one after the other, each at the lowest offset that is free all its life."""
    return _placement(pieces, *_Space(pieces).lay(order), method)


def place_apart(pieces: Lifetimes) -> Placement:
    """Give each piece room of its own, as one buffer a tensor does."""
    sizes = _aligned(pieces.bytes)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return _placement(pieces, [int(end) for end in ends - sizes], total, "one buffer a tensor")


def greedy_orders(pieces: Lifetimes) -> dict[str, list[int]]:
    """Return the orders in which greedy placements are tried: by size, first use, area and breadth."""
    life = pieces.last - pieces.first + 1
    moments, needed = pieces.live_bytes()
    fullest = np.zeros(len(pieces), dtype=np.int64)
    """The most bytes needed at once in the life of a piece."""
    starts = np.searchsorted(moments, pieces.first)
    ends = np.searchsorted(moments, pieces.last, side="right")
    for piece, (start, end) in enumerate(zip(starts, ends, strict=True)):
        fullest[piece] = needed[start:end].max()
    size = pieces.bytes
    keys = {
        "size": (-life, -size),
        "order": (-size, pieces.first),
        "area": (-size, -size * life),
        "breadth": (-size, -fullest),
    }
    return {name: [int(piece) for piece in np.lexsort(key)] for name, key in keys.items()}


class _Space:
    """The pieces with their neighbours: those that are needed at the same time."""

    def __init__(self, pieces: Lifetimes, many: int = _MANY) -> None:
        self.sizes = [int(size) for size in _aligned(pieces.bytes)]
        self.bound = int(Lifetimes(_aligned(pieces.bytes), pieces.first, pieces.last).bound_bytes)
        """The bound of sizes as they are laid, which is what can be reached."""
        meet = (pieces.first[:, None] <= pieces.last) & (pieces.last[:, None] >= pieces.first)
        np.fill_diagonal(meet, False)
        rows = [np.flatnonzero(row) for row in meet]
        self.neighbours = [row.tolist() for row in rows]
        self._crowds = {piece: row for piece, row in enumerate(rows) if len(row) > many}
        self._sizes = np.array(self.sizes, dtype=np.int64)

    def lay(self, order: Sequence[int], most_bytes: float = math.inf) -> tuple[list[int], int]:
        """Return offsets, and the bytes that they take; not all are laid once these are above ``most_bytes``."""
        sizes, neighbours = self.sizes, self.neighbours
        offsets = [-1] * len(sizes)
        laid = np.full(len(sizes), -1, dtype=np.int64)
        most = 0
        for piece in order:
            size, place = sizes[piece], 0
            if piece in self._crowds:
                place = self._lowest(self._crowds[piece], laid, size)
            else:
                taken = [(offsets[i], sizes[i]) for i in neighbours[piece] if offsets[i] >= 0]
                taken.sort()
                for start, length in taken:
                    if start - place >= size:
                        break
                    end = start + length
                    if end > place:
                        place = end
            offsets[piece] = laid[piece] = place
            if place + size > most:
                most = place + size
                if most > most_bytes:
                    break
        return offsets, most

    def _lowest(self, crowd: Numbers, laid: Numbers, size: int) -> int:
        """Return the lowest place beside many neighbours: the same as step by step, in whole columns."""
        starts = laid[crowd]
        there = starts >= 0
        starts = starts[there]
        if not len(starts):
            return 0
        order = np.argsort(starts)
        starts, lengths = starts[order], self._sizes[crowd][there][order]
        below = np.concatenate([[0], np.maximum.accumulate(starts + lengths)])
        fits = starts - below[:-1] >= size
        first = int(np.argmax(fits))
        return int(below[first] if fits[first] else below[-1])


@dataclass
class _Search:
    """Moves pieces that reach the top to other places in the order and keeps what is not worse."""

    draw: random.Random
    until: float
    rounds: int

    def improve(self, space: _Space, order: list[int]) -> tuple[list[int], tuple[list[int], int]]:
        """Return the best order that was found from one on, with its offsets and bytes."""
        offsets, now = space.lay(order)
        while self.rounds > 0 and now > space.bound and time.perf_counter() < self.until:
            self.rounds -= 1
            tops = [i for i, start in enumerate(offsets) if start + space.sizes[i] == now]
            piece = self.draw.choice(tops)
            if space.neighbours[piece] and self.draw.random() < _SIDEWAYS:
                piece = self.draw.choice(space.neighbours[piece])
            place = order.index(piece)
            earlier = place + 1 if self.draw.random() < _EARLIER else len(order)
            tried = [*order[:place], *order[place + 1 :]]
            tried.insert(self.draw.randrange(earlier), piece)
            laid, most = space.lay(tried, now)
            if most <= now:
                order, offsets, now = tried, laid, most
        return order, (offsets, now)


def _aligned(sizes: Numbers) -> Numbers:
    return -(-sizes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _placement(pieces: Lifetimes, offsets: list[int], total: int, method: str) -> Placement:
    return Placement(tuple(offsets), total, pieces.bound_bytes, pieces.separate_bytes, method)
