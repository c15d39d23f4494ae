"""How caches that grow with every position get their room: by a policy, with what it copies told.

``exact`` makes a new tensor at every position and copies all that was there. ``doubling`` takes twice the room whenever
it is full, as lists do, and ``reserved`` takes all of it at once; new rows then go into room that nobody has read yet,
so a state that came in stays valid. Where two ways on from one state meet, the second one gets room of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

PolicyName = Literal["exact", "doubling", "reserved"]
FIRST_ROWS = 16
"""Room that doubling begins with."""


@dataclass
class Growth:
    """A policy, and what it has copied so far."""

    policy: PolicyName = "exact"
    reserved_rows: int = 0
    """Positions that ``reserved`` takes room for at once; beyond them it goes on by doubling."""
    copied_bytes: int = 0
    """Rows that were moved to make room; not the new ones, which have to be written anyway."""

    def rows(self, needed: int) -> int:
        """Return the rows that a cache of ``needed`` positions has room for."""
        if self.policy == "exact" or not needed:
            return needed
        room = max(FIRST_ROWS, self.reserved_rows) if self.policy == "reserved" else FIRST_ROWS
        while room < needed:
            room *= 2
        return room

    def moved_rows(self, positions: int) -> int:
        """Return how many rows are moved while so many positions are read one after the other."""
        if self.policy == "exact":
            return positions * (positions - 1) // 2
        moved, room = 0, self.rows(1)
        while room < positions:
            moved, room = moved + room, room * 2
        return moved


@dataclass
class _Room:
    """Memory in which the first ``used`` rows belong to somebody."""

    whole: Tensor
    used: int


_GROWTH: ContextVar[Growth | None] = ContextVar("growth", default=None)
_ROOMS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Where the rows of a cache lie, by the cache: a view of the first of them."""


@contextmanager
def growing(policy: PolicyName, reserved_rows: int = 0) -> Iterator[Growth]:
    """Let caches grow by a policy inside; what is yielded counts what was copied."""
    growth = Growth(policy, reserved_rows)
    token = _GROWTH.set(growth)
    try:
        yield growth
    finally:
        _GROWTH.reset(token)


def appended(cache: Tensor, new: Tensor, dim: int) -> Tensor:
    """Return a cache with rows behind it along ``dim``; the cache that came in stays as it is.

    By ``exact`` and wherever gradients are wanted it is a new tensor; else a view of memory with room for more.
    """
    growth = _GROWTH.get()
    if growth is None:
        return torch.cat((cache, new), dim=dim)
    had, needed = cache.shape[dim], cache.shape[dim] + new.shape[dim]
    wanted = torch.is_grad_enabled() and (cache.requires_grad or new.requires_grad)
    if growth.policy == "exact" or wanted:
        growth.copied_bytes += cache.nbytes
        return torch.cat((cache, new), dim=dim)
    room: _Room | None = _ROOMS.get(cache)  # type: ignore[no-untyped-call]
    if room is None or room.used != had or needed > room.whole.shape[dim]:
        sizes = list(cache.shape)
        sizes[dim] = growth.rows(needed)
        room = _Room(cache.new_empty(sizes), had)
        room.whole.narrow(dim, 0, had).copy_(cache)
        growth.copied_bytes += cache.nbytes
    room.whole.narrow(dim, had, new.shape[dim]).copy_(new)
    room.used = needed
    view = room.whole.narrow(dim, 0, needed)
    _ROOMS[view] = room
    return view
