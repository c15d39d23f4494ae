"""What each choice costs, worked out from one plain step: keep an instruction, or compute a run of them again.

The plain step tells every storage's life. With a plan, what stands in memory while instruction ``a`` goes backward is
that of the plain step without what came from before its run, plus what the plan has kept until there; so one trace is
enough for all plans. Of a run that is computed again, only what it reads is kept, and its forward stands in memory once
more before its backward begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridlab.planning.plain_step import AHEAD, BACK, LAST, PlainStep
from hybridlab.planning.shelf import Speed

Ints = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Unit:
    """One instruction: what it takes to run it and to keep it.

    Bytes are those of one plain step: ``saved_bytes`` it is the first to keep for backward, ``forward_peak_bytes`` and
    ``backward_peak_bytes`` the most that stands while it runs, beside what came from before it. ``again_us`` is the
    time of its forward until the last thing that is kept, where computing again ends.
    """

    name: str
    forward_us: int
    again_us: int
    saved_bytes: int
    forward_peak_bytes: int
    backward_peak_bytes: int
    held: str = ""
    """Why it cannot be computed again; empty where it can."""


@dataclass(frozen=True)
class Choice:
    """Instructions ``first`` to ``last`` as one: kept (one alone), computed again, or ``away`` (one alone): offloaded.

    ``local_bytes`` is the most that stands in their backward, beside what was kept before them and those storages of it
    that they ``need``; ``ahead_bytes`` and ``ahead_need`` are the same of their forward. ``keeps`` and ``extra_bytes``
    is what they leave standing from forward to backward.
    """

    first: int
    last: int
    again: bool
    time_us: int
    local_bytes: int
    need: frozenset[int]
    keeps: frozenset[int]
    extra_bytes: int = 0
    ahead_bytes: int = 0
    ahead_need: frozenset[int] = frozenset()
    away: bool = False
    shares: tuple[float | None, ...] = ()
    """PyTorch's memory budget of each instruction, None where it is not compiled; empty where nothing is."""


@dataclass(frozen=True)
class Choices:
    """All choices of a step. ``sizes`` are the bytes of storages, ``crossing`` those at each border that count once.

    A storage counts at a border where somebody before it and somebody behind it may keep it. ``floor_bytes`` is there
    whatever is chosen; the last instruction stands for the loss and can only be kept.
    """

    units: tuple[Unit, ...]
    starting: tuple[tuple[Choice, ...], ...]
    crossing: tuple[frozenset[int], ...]
    sizes: dict[int, int]
    floor_bytes: int
    plain_us: int
    later: Choices | None = None
    """The same choices in the second part of a batch, where it is smaller than the first but finds gradients there."""

    def bytes_of(self, storages: frozenset[int]) -> int:
        """Return the bytes of storages together."""
        return sum(self.sizes[one] for one in storages)


def choices(
    step: PlainStep,
    row_us: Sequence[float] | Ints,
    *,
    plain_us: float,
    span_us: float,
    span_bytes: int,
    shelf: Speed | None = None,
) -> Choices:
    """Work out every choice of a plain step.

    Args:
        step: the plain step.
        row_us: the time of each row of its stream.
        plain_us: the time of the whole plain step.
        span_us: the time that each run takes beside what it computes again.
        span_bytes: what each run keeps beside what it reads: the random state.
        shelf: how long it takes to offload; without it nothing is.
    """
    reading = _Reading(step, row_us)
    return reading.choices(round(plain_us), round(span_us), span_bytes, shelf)


class _Reading:
    """The plain step as arrays: bytes that stand at each birth of a storage, by who made them and when."""

    def __init__(self, step: PlainStep, row_us: Sequence[float] | Ints) -> None:
        self.step = step
        self.count = len(step.names)
        table = step.storages
        self.sizes, self.born, self.died, self.maker = (
            table.bytes,
            table.born,
            table.died,
            table.maker,
        )
        self.forward = table.phase == AHEAD
        self._bytes_at_births()
        self._rows(row_us)
        self._keepers()

    def _bytes_at_births(self) -> None:
        """Bytes that stand at each birth (``total``), and those of forward made before each place (``older``)."""
        ticks, total = self.step.storages.live()
        births = np.flatnonzero(self.born > 0)
        order = births[np.argsort(self.born[births], kind="stable")]
        self.at = self.born[order]
        self.total = total[np.searchsorted(ticks, self.at, "right") - 1]
        self.who = self.maker[order]
        self.update = self.step.storages.phase[order] == LAST
        self.back = ~self.forward[order] & ~self.update
        self.static = int(self.sizes[self.born == 0].sum())
        self.older = self._older(self.at)

    def _older(self, ticks: Ints) -> Ints:
        """Return the bytes that forward made before each place and that stand at ticks: (places + 2, ticks)."""
        alive = np.zeros((self.count + 2, len(ticks) + 1), dtype=np.int64)
        mine = np.flatnonzero(self.forward & (self.born > 0))
        starts = np.searchsorted(ticks, self.born[mine], "left")
        ends = np.where(self.died[mine] < 0, len(ticks), np.searchsorted(ticks, self.died[mine]))
        np.add.at(alive, (self.maker[mine] + 1, starts), self.sizes[mine])
        np.add.at(alive, (self.maker[mine] + 1, ends), -self.sizes[mine])
        return np.asarray(np.cumsum(np.cumsum(alive, axis=1), axis=0)[:, :-1])

    def _rows(self, row_us: Sequence[float] | Ints) -> None:
        """Times by place, and the border in forward behind which nothing more is kept."""
        rows = self.step.rows
        ticks, who = rows.tick, rows.who
        times = np.asarray(row_us, dtype=float)
        self.last_pack = np.full(self.count + 1, -1, dtype=np.int64)
        for tick, place, _ in self.step.packs:
            if place < self.count:
                self.last_pack[place] = tick
        ahead = rows.phase == AHEAD
        self.forward_us = np.bincount(who[ahead], times[ahead], self.count + 1)
        early = ahead & (ticks <= self.last_pack[who])
        self.again_us = np.bincount(who[early], times[early], self.count + 1)
        behind = rows.phase == BACK
        firsts = np.full(self.count + 1, -1, dtype=np.int64)
        for place in range(self.count + 1):
            mine = ticks[behind & (who == place)]
            firsts[place] = mine.min() if len(mine) else -1
        some = np.flatnonzero(firsts >= 0)
        self.meets = np.full(self.count + 1, self.static, dtype=np.int64)
        """Bytes that stand as a place's backward begins, without what forward made: gradients that have come."""
        all_ticks, total = self.step.storages.live()
        order = some[np.argsort(firsts[some])]
        older = self._older(firsts[order])[self.count + 1]
        standing = total[np.searchsorted(all_ticks, firsts[order], "right") - 1]
        self.meets[order] = standing - older

    def _keepers(self) -> None:
        """Which storages of forward each place keeps for its backward, and which it reads."""
        self.kept: list[set[int]] = [set() for _ in range(self.count + 1)]
        for _, place, storage in self.step.packs:
            if storage >= 0 and self.forward[storage] and self.born[storage] > 0:
                self.kept[place].add(storage)
        self.read = [
            {one for one in mine if self.forward[one] and self.born[one] > 0}
            for mine in self.step.reads
        ] + [set()]
        owned = set().union(*self.kept, *self.read)
        end = int(self.at[~self.back & ~self.update].max(initial=0))
        self.left = np.zeros(self.count + 1, dtype=np.int64)
        """Bytes that stand behind forward though autograd does not keep them, by who made them."""
        staying = self.forward & (self.born > 0) & ((self.died < 0) | (self.died > end))
        for storage in map(int, np.flatnonzero(staying)):
            if storage not in owned and self.died[storage] > self.born[storage] + 1:
                self.left[self.maker[storage]] += self.sizes[storage]

    def choices(self, plain_us: int, span_us: int, span_bytes: int, shelf: Speed | None) -> Choices:
        """Put the choices together, by their first instruction."""
        n = self.count + 1
        peaks = self._peaks()
        keepers: dict[int, set[int]] = {}
        for place in range(n):
            for storage in self.kept[place] | self.read[place]:
                keepers.setdefault(storage, set()).add(place)
        crossing = tuple(
            frozenset(
                storage
                for storage, places in keepers.items()
                if len(places) > 1 and min(places) < border <= max(places)
            )
            for border in range(n + 1)
        )
        pending = [
            frozenset(
                storage
                for storage, places in keepers.items()
                if self.maker[storage] < place
                and max(places) >= place
                and any(place <= one and storage in self.read[one] for one in places)
            )
            for place in range(n)
        ]
        starting = tuple(
            tuple(self._starting(first, peaks, pending[first], span_us, span_bytes, shelf))
            for first in range(n)
        )
        names = (*self.step.names, "(loss)")
        units = tuple(
            Unit(
                names[place],
                round(self.forward_us[place]),
                round(self.again_us[place]),
                int(sum(self.sizes[s] for s in self.kept[place] if self.maker[s] == place)),
                max(0, int(peaks.forward[place, place]) - self.static),
                max(0, int(peaks.backward[place, place]) - self.static),
                self._held(place),
            )
            for place in range(n)
        )
        floor = int(self.total[self.update].max(initial=self.static))
        sizes = {storage: int(self.sizes[storage]) for storage in keepers}
        return Choices(units, starting, crossing, sizes, floor, plain_us)

    def _held(self, place: int) -> str:
        return "it is the loss" if place == self.count else self.step.held.get(place, "")

    def _peaks(self) -> _Peaks:
        ahead = ~self.back & ~self.update
        early = ahead & (self.at <= self.last_pack[self.who] + 1)
        groups = [_Groups(self.who, where) for where in (ahead, early, self.back)]
        found = np.zeros((3, self.count + 1, self.count + 1), dtype=np.int64)
        for first in range(self.count + 1):
            alone = self.total - self.older[first]
            for table, group in zip(found, groups, strict=True):
                group.largest(alone, table[first])
        return _Peaks(*found)

    def _starting(
        self,
        first: int,
        peaks: _Peaks,
        pending: frozenset[int],
        span_us: int,
        span_bytes: int,
        shelf: Speed | None,
    ) -> Iterator[Choice]:
        """Yield what can be done from an instruction on: keep, offload, or compute again with those behind it."""
        older = frozenset(s for s in self.kept[first] if self.maker[s] < first)
        keep = Choice(
            first,
            first,
            again=False,
            time_us=0,
            local_bytes=max(self.static, int(peaks.backward[first, first])),
            need=older,
            keeps=frozenset(self.kept[first]),
            extra_bytes=int(self.left[first]),
            ahead_bytes=int(peaks.forward[first, first]),
            ahead_need=pending,
        )
        yield keep
        if shelf is not None and self.kept[first] and first < self.count:
            copies = sum(int(self.sizes[one]) for one in older)
            yield replace(
                keep,
                time_us=round(sum(shelf.us(int(self.sizes[one])) for one in self.kept[first])),
                local_bytes=keep.local_bytes
                + copies,  # what comes back is its own, whoever else has it
                need=frozenset(),
                keeps=frozenset(),
                away=True,
            )
        reads: set[int] = set()
        time_us, left, packed = 0.0, 0, False
        whole_us, whole, falls, again = 0.0, self.static, self.static, 0
        for last in range(first, self.count):
            if self._held(last):
                return
            reads |= {s for s in self.read[last] if self.maker[s] < first}
            left += int(self.left[last])
            falls = max(falls, int(peaks.backward[first, last]))
            if self.last_pack[last] >= 0:
                packed = True
                rises = max(whole, int(peaks.early[first, last]))
                again = int(self.meets[last]) + rises - self.static
                time_us = whole_us + float(self.again_us[last])
            whole = max(whole, int(peaks.forward[first, last]))
            whole_us += float(self.forward_us[last])
            # A run that keeps nothing, such as an addition or frozen components on what no weight has touched, is never
            # asked for again: it lets go of what it read, and all that it takes is its forward.
            held, beside = (frozenset(reads), span_bytes) if packed else (frozenset(), 0)
            yield Choice(
                first,
                last,
                again=True,
                time_us=round(time_us) + span_us,
                local_bytes=max(again, falls) + beside,
                need=held,
                keeps=held,
                extra_bytes=left + beside,
                ahead_bytes=0 if packed else whole,
                ahead_need=frozenset() if packed else pending,
            )


@dataclass(frozen=True)
class _Peaks:
    """The most bytes at births by (what is taken away: all that is older than this place, who is at work)."""

    forward: Ints
    early: Ints
    backward: Ints


class _Groups:
    """Takes the largest of values by who they belong to."""

    def __init__(self, who: Ints, where: Ints) -> None:
        mine = np.flatnonzero(where)
        self.order = mine[np.argsort(who[mine], kind="stable")]
        sorted_who = who[self.order]
        self.starts = np.flatnonzero(np.diff(sorted_who, prepend=-1))
        self.places = sorted_who[self.starts]

    def largest(self, values: Ints, into: Ints) -> None:
        if len(self.order):
            into[self.places] = np.maximum.reduceat(values[self.order], self.starts)
