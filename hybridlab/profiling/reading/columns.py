"""Grows the columns of a trace batch by batch; the decoded events of a batch are gone before the next comes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hybridlab.profiling.reading.events import (
    NOTHING,
    Args,
    CollectiveArgs,
    CounterEvent,
    Event,
)
from hybridlab.profiling.reading.trace import (
    CATEGORIES,
    DEVICE,
    Allocations,
    Collectives,
    Counted,
    Events,
    Ints,
    Kind,
    Links,
    Thread,
)

_LARGEST = 2**31 - 1
_ARROWS = ("fwdbwd", "forward_backward")
_NO_ARGS = Args()
_CATEGORY, _NAME, _THREAD = attrgetter("cat"), attrgetter("name"), attrgetter("pid", "tid")
_START, _DURATION = attrgetter("ts"), attrgetter("dur")


class _Numbers(dict[Any, int]):
    """Numbers what it is asked for, in the order of asking."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self)
        return number


class _ThreadNumbers(dict[tuple[Any, Any], int]):
    """Numbers pairs of a process and a thread; "42" and 42 are one."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: dict[tuple[int | str, int | str], int] = {}

    def __missing__(self, key: tuple[Any, Any]) -> int:
        pair = (_plain(key[0]), _plain(key[1]))
        number = self[key] = self.pairs.setdefault(pair, len(self.pairs))
        return number


def _plain(value: int | str | None) -> int | str:
    if value is None:
        return NOTHING
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return value


class Columns:
    """Columns that grow; ``events``, ``memory`` and ``links`` finish them."""

    def __init__(self) -> None:
        """Start empty."""
        self.names = _Numbers()
        self.categories = _Numbers()
        self.threads = _ThreadNumbers()
        self.entries = 0
        self.complete = 0
        self.odd: Counter[str] = Counter()
        self._begun: dict[int, list[Event]] = {}
        self._sized: list[tuple[int, CollectiveArgs]] = []
        self._counters: list[tuple[int, dict[str, float]]] = []
        self._place: Ints | None = None
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._memory: dict[str, list[NDArray[Any]]] = {}
        self._arrows: dict[str, dict[Any, tuple[int, float]]] = {"s": {}, "f": {}}
        self._processes: dict[int | str, str] = {}
        self._thread_names: dict[tuple[int | str, int | str], str] = {}

    def add(self, batch: Sequence[Event]) -> None:
        """Take a batch of events in."""
        self.entries += len(batch)
        complete = [event for event in batch if event.ph == "X"]
        if len(complete) < len(batch):
            points = [event for event in batch if event.ph != "X"]
            complete += self._closed(points)
            self._add_points(points)
        if None in map(_START, complete) or None in map(_DURATION, complete):
            untimed = len(complete)
            complete = [e for e in complete if e.ts is not None and e.dur is not None]
            self.odd["untimed"] += untimed - len(complete)
        if complete:
            self._add_sizes(complete)
            self.complete += len(complete)
            self._add_complete(complete)

    def _closed(self, batch: Sequence[Event]) -> list[Event]:
        """Return a complete event for each that ends here; an end belongs to the last beginning on its thread."""
        made = []
        for event in batch:
            if event.ph not in ("B", "E"):
                continue
            begun = self._begun.setdefault(self.threads[event.pid, event.tid], [])
            if event.ph == "B":
                begun.append(event)
            elif begun:
                first = begun.pop()
                timed = first.ts is not None and event.ts is not None
                dur = event.ts - first.ts if timed else None  # type: ignore[operator]
                made.append(msgspec.structs.replace(first, ph="X", dur=dur))
            else:
                self.odd["without an end"] += 1
        return made

    def _add_sizes(self, batch: Sequence[Event]) -> None:
        """Take in what events tell of operations between processes, and what was counted."""
        if set(map(type, batch)) == {Event}:
            return
        for at, event in enumerate(batch, self.complete):
            if isinstance(event, CounterEvent):
                self._counters.append((at, event.counted))
            elif isinstance(event.args, CollectiveArgs) and event.args.collective:
                self._sized.append((at, event.args))

    def _add_complete(self, batch: list[Event]) -> None:
        put, count = self._put, len(batch)
        category = list(map(self.categories.__getitem__, map(_CATEGORY, batch)))
        kind_of = [_kind(name) for name in self.categories]
        put("name", list(map(self.names.__getitem__, map(_NAME, batch))), np.int32)
        put("category", category, np.int32)
        put("kind", list(map(kind_of.__getitem__, category)), np.int8)
        put("thread", list(map(self.threads.__getitem__, map(_THREAD, batch))), np.int32)
        put("ts", list(map(_START, batch)), np.float64)
        put("dur", list(map(_DURATION, batch)), np.float64)
        sparse = {
            name: np.full(count, np.nan if dtype is np.float64 else NOTHING, dtype=dtype)
            for name, dtype in _SPARSE.items()
        }
        groups = [_GROUP[kind] for kind in kind_of]
        for group, names in _COLUMNS.items():
            of_group = np.array([one == group for one in groups])[category]
            rows = np.flatnonzero(of_group)
            if len(rows):
                args = [event.args or _NO_ARGS for event in compress(batch, of_group)]
                for name in names:
                    sparse[name][rows] = _values(name, args)
        for name, column in sparse.items():
            self._parts.setdefault(name, []).append(column)

    def _put(self, name: str, values: list[Any], dtype: type[np.generic]) -> None:
        self._parts.setdefault(name, []).append(_array(values, dtype))

    def _add_points(self, batch: list[Event]) -> None:
        memory = []
        for event in batch:
            phase = event.ph
            if phase in ("s", "f"):
                if event.cat in _ARROWS and event.ts is not None:
                    self._arrows[phase].setdefault(
                        event.id, (self.threads[event.pid, event.tid], event.ts)
                    )
            elif phase in ("i", "I"):
                if event.name == "[memory]" and event.ts is not None:
                    memory.append(event)
            elif phase == "M":
                self._describe(event)
            elif not phase:
                self.odd["not events"] += 1
        if not memory:
            return
        args = [event.args or _NO_ARGS for event in memory]
        columns: dict[str, tuple[Iterable[Any], type[np.generic]]] = {
            "time_us": ([e.ts for e in memory], np.float64),
            "thread": ([self.threads[e.pid, e.tid] for e in memory], np.int32),
            "device_type": ([a.device_type for a in args], np.int32),
            "device": ([a.device_id for a in args], np.int32),
            "bytes": ([a.memory_bytes for a in args], np.int64),
            "address": ([a.address for a in args], np.int64),
            "allocated": ([a.allocated for a in args], np.int64),
            "reserved": ([a.reserved for a in args], np.int64),
        }
        for name, (values, dtype) in columns.items():
            self._memory.setdefault(name, []).append(_array(list(values), dtype))

    def _describe(self, event: Event) -> None:
        args = event.args or _NO_ARGS
        if event.name == "process_name" and args.name is not None:
            self._processes[_plain(event.pid)] = str(args.name)
        elif event.name == "thread_name" and args.name is not None:
            self._thread_names[_plain(event.pid), _plain(event.tid)] = str(args.name)

    def finish(self) -> tuple[Events, float]:
        """Return the events with a duration and the µs that were subtracted from their times."""
        parts = self._parts
        ts, dur = _joined(parts, "ts", np.float64), _joined(parts, "dur", np.float64)
        keep = np.isfinite(ts) & np.isfinite(dur) & (dur >= 0) & (ts >= 0)
        self.odd["negative"] += int(np.count_nonzero((dur < 0) | (ts < 0)))
        ends = ts + dur
        base = math.floor(float(ts[keep].min())) if keep.any() else 0
        every = bool(keep.all())
        self._place = np.where(keep, np.cumsum(keep) - 1, NOTHING)
        self.odd["without an end"] += sum(len(begun) for begun in self._begun.values())

        def column(name: str, dtype: type[np.generic]) -> NDArray[Any]:
            joined = _joined(parts, name, dtype)
            return joined if every else joined[keep]

        if not every:
            ts, ends, dur = ts[keep], ends[keep], dur[keep]
        events = Events(
            name=column("name", np.int32),
            category=column("category", np.int32),
            kind=column("kind", np.int8),
            thread=column("thread", np.int32),
            start_us=ts - base,
            end_us=ends - base,
            dur_us=dur,
            correlation=column("correlation", np.int64),
            external=column("external", np.int64),
            stream=column("stream", np.int32),
            device=column("device", np.int32),
            sequence=column("sequence", np.int64),
            forward_thread=column("forward_thread", np.int64),
            python_id=column("python_id", np.int32),
            python_parent=column("python_parent", np.int32),
            module=column("module", np.int32),
            bytes=column("bytes", np.int64),
            blocks_per_sm=column("blocks_per_sm", np.float64),
            occupancy=column("occupancy", np.float64),
        )
        return events, float(base)

    def memory(self, base_us: float) -> Allocations:
        """Return the memory events, ordered by time."""
        time = _joined(self._memory, "time_us", np.float64)
        order = np.argsort(time, kind="stable")
        ids: dict[str, Any] = {
            name: _joined(self._memory, name, np.int32)[order]
            for name in ("thread", "device_type", "device")
        }
        counts: dict[str, Any] = {
            name: _joined(self._memory, name, np.int64)[order]
            for name in ("bytes", "address", "allocated", "reserved")
        }
        return Allocations(time_us=time[order] - base_us, **ids, **counts)

    def links(self, base_us: float) -> Links:
        """Return the arrows that have both a beginning and an end."""
        starts, ends = self._arrows["s"], self._arrows["f"]
        both = [key for key in starts if key in ends]
        self.odd["arrows without an end"] += len(starts) + len(ends) - 2 * len(both)
        return Links(
            forward_thread=_array([starts[key][0] for key in both], np.int32),
            forward_us=_array([starts[key][1] for key in both], np.float64) - base_us,
            backward_thread=_array([ends[key][0] for key in both], np.int32),
            backward_us=_array([ends[key][1] for key in both], np.float64) - base_us,
        )

    def collectives(self) -> Collectives:
        """Return what events tell of operations between processes; ``finish`` comes first."""
        found = [(row, args) for at, args in self._sized if (row := self._row(at)) != NOTHING]
        return Collectives(
            row=_array([row for row, _ in found], np.int32),
            name=tuple(args.collective or "" for _, args in found),
            dtype=tuple(args.dtype or "" for _, args in found),
            elements_in=_array([args.elements_in for _, args in found], np.int64),
            elements_out=_array([args.elements_out for _, args in found], np.int64),
            group_size=_array([args.group_size for _, args in found], np.int32),
        )

    def counted(self) -> tuple[Counted, ...]:
        """Return what was counted in each range; ``finish`` comes first."""
        rows = [(self._row(at), values) for at, values in self._counters]
        return tuple(Counted(row, values) for row, values in rows if row != NOTHING)

    def _row(self, at: int) -> int:
        """Return the position of an event among those that are kept."""
        return NOTHING if self._place is None else int(self._place[at])

    def described_threads(self) -> tuple[Thread, ...]:
        """Return what every thread number stands for."""
        return tuple(
            Thread(pid, tid, self._processes.get(pid, ""), self._thread_names.get((pid, tid), ""))
            for pid, tid in self.threads.pairs
        )


def _kind(category: str | None) -> Kind:
    return CATEGORIES.get((category or "").lower(), Kind.UNKNOWN)


_GROUP: dict[Kind, str] = dict.fromkeys(Kind, "")
_GROUP |= dict.fromkeys((*DEVICE, Kind.SYNC), "device")
_GROUP |= {Kind.RUNTIME: "launch", Kind.PYTHON: "python"}
_GROUP |= {Kind.OPERATOR: "operator", Kind.ANNOTATION: "operator"}


_SPARSE: dict[str, type[np.generic]] = {
    "correlation": np.int64,
    "external": np.int64,
    "stream": np.int32,
    "device": np.int32,
    "bytes": np.int64,
    "blocks_per_sm": np.float64,
    "occupancy": np.float64,
    "sequence": np.int64,
    "forward_thread": np.int64,
    "python_id": np.int32,
    "python_parent": np.int32,
    "module": np.int32,
}
"""Columns that only some rows have."""
_COLUMNS: dict[str, tuple[str, ...]] = {
    "device": (
        *("correlation", "external", "stream", "device", "bytes"),
        *("blocks_per_sm", "occupancy"),
    ),
    "launch": ("correlation", "external"),
    "operator": ("external", "sequence", "forward_thread"),
    "python": ("python_id", "python_parent", "module"),
}


def _values(name: str, args: list[Args]) -> NDArray[Any]:
    """Return what events tell of a column; before 2022 the key of ``external`` was written in small letters."""
    if name != "external":
        return _array(list(map(attrgetter(name), args)), _SPARSE[name])
    values = _array([one.external_id for one in args], np.int64)
    if (values == NOTHING).any():
        old = _array([one.external_id_2021 for one in args], np.int64)
        values = np.where(values == NOTHING, old, values)
    return values


def _array(values: list[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return values as a column; what is not a number of this type is -1, or NaN."""
    try:
        return np.array(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        if dtype is np.float64:
            return np.array([math.nan if v is None else float(v) for v in values], dtype=dtype)
        largest = _LARGEST if dtype is np.int32 else 2**63 - 1
        return np.array([_whole(value, largest) for value in values], dtype=dtype)


def _whole(value: Any, largest: int) -> int:
    if isinstance(value, str):
        text = value.removeprefix("stream ")
        value = int(text) if text.isdecimal() else NOTHING
    return value if isinstance(value, int) and abs(value) <= largest else NOTHING


def _joined(
    parts: dict[str, list[NDArray[Any]]], name: str, dtype: type[np.generic]
) -> NDArray[Any]:
    """Join the parts of a column and let them go."""
    pieces = parts.pop(name, [])
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype)
