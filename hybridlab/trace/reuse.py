"""How far apart in bytes a storage is used again, and which memory level that means (Mattson's stack distance)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybridlab.trace.access import accesses
from hybridlab.trace.stream import OpStream

MEMORY, FIRST = "memory", "first use"
"""Beyond every cache; and never used before."""
Cache = tuple[str, int]
"""Name and bytes."""


@dataclass(frozen=True)
class Reuse:
    """One access with the distinct bytes touched since the last one of its storage, its own included.

    ``distance_bytes`` is None where there was no use before. ``level`` is the smallest memory that holds so much, if it
    keeps what was used last.
    """

    row: int
    component: str
    storage: int
    bytes: int
    write: bool
    distance_bytes: int | None
    level: str


def reuse(stream: OpStream, caches: Sequence[Cache] = ()) -> list[Reuse]:
    """Return the reuse distance of every access in order; ``caches`` are (name, bytes), smallest first."""
    every = list(accesses(stream))
    tree = _Sums(len(every))
    last: dict[int, tuple[int, int]] = {}
    found = []
    for place, access in enumerate(every):
        before = last.get(access.storage)
        distance = None
        if before is not None:
            then, size = before
            distance = tree.after(then) + max(size, access.bytes)
            tree.add(then, -size)
        tree.add(place, access.bytes)
        last[access.storage] = place, access.bytes
        level = FIRST
        if distance is not None:
            level = next((name for name, size in caches if distance <= size), MEMORY)
        found.append(
            Reuse(
                access.row,
                access.component,
                access.storage,
                access.bytes,
                access.write,
                distance,
                level,
            )
        )
    return found


def levels(found: Sequence[Reuse]) -> dict[str, dict[str, int]]:
    """Return the bytes that each component takes from each level."""
    sums: dict[str, dict[str, int]] = {}
    for item in found:
        mine = sums.setdefault(item.component, {})
        mine[item.level] = mine.get(item.level, 0) + item.bytes
    return sums


class _Sums:
    """Sums of bytes by the place of their last use, in logarithmic time (a Fenwick tree)."""

    def __init__(self, places: int) -> None:
        self._tree = [0] * (places + 1)
        self._total = 0

    def add(self, place: int, size: int) -> None:
        self._total += size
        place += 1
        while place < len(self._tree):
            self._tree[place] += size
            place += place & -place

    def after(self, place: int) -> int:
        """Return the sum over the places behind this one."""
        place, head = place + 1, 0
        while place:
            head += self._tree[place]
            place -= place & -place
        return self._total - head
