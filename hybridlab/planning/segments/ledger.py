"""The storages and operators of a step that is put together, and until when each storage is held by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hybridlab.planning.plain_step import Ints, Rows, Storages
from hybridlab.planning.segments.kinds import Kind
from hybridlab.planning.segments.record import (
    AT_END,
    BEFORE,
    IN_BACKWARD,
    IN_FORWARD,
    NEVER,
    Given,
    Meta,
    Part,
    Reference,
    Segment,
    Until,
)

_ON = 1 << 60
"""The death of what outlives the step, while lives are put together."""


@dataclass
class Gradient:
    """A gradient on its way: its storage, and a ``tensor`` number that equal ones share."""

    storage: int
    meta: Meta
    tensor: int


@dataclass
class Value:
    """A tensor between instructions; ``storage`` is negative where it was there before the step."""

    storage: int
    meta: Meta
    needs: bool
    gradient: Gradient | None = None


@dataclass
class Placed:
    """An instruction's recording in the step: what it is, where its storages begin, what goes in and out."""

    place: int
    kind: Kind | None
    given: tuple[Given, ...]
    segment: Segment
    start: int
    storages: int
    reads: list[Value]
    gives: list[Value]
    named: dict[str, int] = field(default_factory=dict)
    back_start: int = -1
    back_storages: int = -1


class Ledger:
    """What was put into a step so far: ``tick`` is the next free one, ``made`` the number of storages."""

    def __init__(self) -> None:
        """Begin with nothing; tick 0 is before the step."""
        self.tick = 1
        self.made = 0
        self.at_end: list[int] = []
        """Storages that are held until backward has ended."""
        self._storages: list[tuple[Ints, Ints, int, int]] = []
        self._rows: list[tuple[Ints, Ints, Ints, int, int]] = []
        self._until: dict[int, int] = {}
        self._forced: dict[int, int] = {}
        self._end = 0

    def add(self, part: Part, place: int, phase: int) -> None:
        """Add storages and operators from the tick at which the step is, and go on to their end."""
        self._storages.append((part.bytes, part.born + self.tick, place, phase))
        self.made += len(part.bytes)
        self._rows.append(
            (part.row_ticks + self.tick, part.row_flops, part.row_moved, place, phase)
        )
        self.tick += part.ticks + 1

    def add_one(self, size: int, place: int, phase: int) -> int:
        """Add one storage, which stays until backward has ended; return its number."""
        self._storages.append((np.array([size]), np.array([self.tick]), place, phase))
        self.at_end.append(self.made)
        self.made += 1
        self.tick += 1
        return self.made - 1

    def number(self, mine: Placed, reference: Reference, given: Sequence[int] = ()) -> int:
        """Return the number in the step of a storage of a recording, -1 of what was there before."""
        if reference == BEFORE:
            return -1
        if reference.of == "ahead":
            return mine.storages + reference.number
        if reference.of == "back":
            return mine.back_storages + reference.number
        if reference.of == "given":
            return given[reference.number]
        return next(
            value.storage
            for value, one in zip(mine.reads, mine.given, strict=True)
            if one.storage == reference.number
        )

    def hold(self, storage: int, tick: int) -> None:
        """Let a storage stay until a tick at least."""
        if storage >= 0:
            self._until[storage] = max(self._until.get(storage, 0), tick)

    def hold_until(self, storage: int, until: Until, mine: Placed) -> None:
        """Let a storage stay for as long as an instruction holds it."""
        when, tick = until
        if when == IN_BACKWARD:
            self.hold(storage, mine.back_start + tick)
        elif when == AT_END:
            self.at_end.append(storage)
        elif when == NEVER:
            self.hold(storage, _ON)

    def drop(self, storage: int, tick: int) -> None:
        """Let a storage end at a tick, whoever made it."""
        self._forced[storage] = tick

    def end(self) -> None:
        """End backward here: what was held for all of it goes."""
        self.tick += 1
        self._end = self.tick
        for storage in self.at_end:
            self.hold(storage, self._end)
        self.tick += 1

    def lives(self, placed: Sequence[Placed]) -> Storages:
        """Return all storages of forward and backward, each there until the last who holds it lets go."""
        sizes = np.concatenate([one[0] for one in self._storages])
        born = np.concatenate([one[1] for one in self._storages])
        maker, phase = (
            np.concatenate([np.full(len(one[0]), one[place]) for one in self._storages])
            for place in (2, 3)
        )
        died = np.zeros(len(sizes), dtype=np.int64)
        for one in placed:
            ahead, back = one.segment.ahead, one.segment.back
            parts = [(ahead, one.storages)]
            if back is not None and one.back_start >= 0:
                parts.append((back, one.back_storages))
            for part, first in parts:
                died[first : first + len(part.bytes)] = self._own(one, part)
        for storage, tick in self._until.items():
            died[storage] = max(died[storage], tick)
        for storage, tick in self._forced.items():
            died[storage] = tick
        died[died >= _ON] = -1
        return Storages(sizes, born, died, maker, phase)

    def _own(self, one: Placed, part: Part) -> Ints:
        """Return until when an instruction holds what it made."""
        when, tick = part.until
        if one.kind is None:
            when = np.minimum(when, AT_END)
        behind = one.start + one.segment.ahead.ticks
        if part is one.segment.back:
            behind = one.back_start + part.ticks
        return np.select(
            [when == IN_FORWARD, when == IN_BACKWARD, when == AT_END, when == NEVER],
            [
                one.start + tick,
                one.back_start + tick,
                np.full(len(tick), self._end),
                np.full(len(tick), _ON),
            ],
            np.full(len(tick), behind + 1),
        )

    def all_rows(self) -> Rows:
        """Return all operators of forward and backward."""
        tick, flops, moved = (np.concatenate([one[n] for one in self._rows]) for n in range(3))
        who, phase = (
            np.concatenate([np.full(len(one[0]), one[n]) for one in self._rows]) for n in (3, 4)
        )
        return Rows(tick, who, phase, flops, moved)
