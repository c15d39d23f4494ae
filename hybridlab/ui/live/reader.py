"""One reader of the store per run, shared by all sessions that watch it."""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.runs.record import Run
from hybridlab.runs.store import open_store

_EVERY_S = 0.4
"""The store is asked at most this often, however many sessions watch."""
_MOST = 20_000
"""Points kept of one curve; beyond it the older half is thinned."""
_MOST_READERS = 64
Points = dict[str, tuple[list[int], list[int], list[float | None]]]
"""Sequence numbers, steps and values by metric; a value that is not a number is None."""


@dataclass
class _Curve:
    seq: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)

    def thin(self) -> None:
        """Keep every second point of the older half."""
        half = len(self.seq) // 2
        self.seq[:half] = self.seq[:half:2]
        self.step[:half] = self.step[:half:2]
        self.value[:half] = self.value[:half:2]


class Reader:
    """A run's record and curves, as new as the last look at the store."""

    def __init__(self, run_id: str) -> None:
        """Set the reader up; nothing is read yet."""
        self.run_id = run_id
        self._lock = threading.Lock()
        self._looked = -_EVERY_S
        self._run: Run | None = None
        self._curves: dict[str, _Curve] = {}
        self._truncations = 0
        self._seconds = 0.0
        self.last = 0
        self.generation = 0
        """Grows when points were taken back, so that everyone shows the curves anew."""

    def look(self) -> Run:
        """Read what is new, unless somebody just did; return the run.

        Raises:
            RunError: there is no such run.
            StoreError: the store cannot be read.
        """
        with self._lock:
            now = time.monotonic()
            if self._run is not None and (now - self._looked < _EVERY_S or self._settled()):
                return self._run
            self._looked = now
            if self._run is None or self._run.state.active:
                ensure_supervisor()
            store = open_store()
            run = store.get(self.run_id)
            columns = store.metrics(self.run_id, after=self.last)
            if columns.truncations != self._truncations:
                self._curves, self._truncations = {}, columns.truncations
                self.generation += 1
                columns = store.metrics(self.run_id, after=0)
            for seq, step, name, value in zip(
                columns.seq, columns.step, columns.name, columns.value, strict=True
            ):
                curve = self._curves.setdefault(name, _Curve())
                curve.seq.append(seq)
                curve.step.append(step)
                curve.value.append(value if math.isfinite(value) else None)
                if len(curve.seq) > _MOST:
                    curve.thin()
            self._seconds = columns.seconds[-1] if columns.seconds else self._seconds
            self.last, self._run = columns.last, run
            return run

    def _settled(self) -> bool:
        """Say whether nothing moves any more, but look again now and then: a run may be resumed or deleted."""
        return (
            self._run is not None
            and not self._run.state.active
            and time.monotonic() - self._looked < 2.0
        )

    def since(self, after: int, names: frozenset[str], most: int) -> tuple[int, Points]:
        """Return the last sequence number and the points after another, at most ``most`` of each metric."""
        with self._lock:
            points: Points = {}
            for name, curve in self._curves.items():
                start = bisect.bisect_right(curve.seq, after)
                if name in names and start < len(curve.seq):
                    stride = math.ceil((len(curve.seq) - start) / most)
                    columns = (curve.seq, curve.step, curve.value)
                    points[name] = tuple(_tail(column, start, stride) for column in columns)  # type: ignore[assignment]
            return self.last, points

    def seconds_left(self) -> float | None:
        """Return how long the run still takes at the pace it had so far; None while that cannot be said."""
        run = self._run
        if run is None or not run.steps or run.step < 1 or self._seconds <= 0:
            return None
        return self._seconds / run.step * (run.steps - run.step)

    def latest(self) -> dict[str, float]:
        """Return the last finite value of every metric."""
        with self._lock:
            found = {}
            for name, curve in self._curves.items():
                value = next((v for v in reversed(curve.value) if v is not None), None)
                if value is not None:
                    found[name] = value
            return found

    def curve(self, name: str) -> tuple[list[int], list[float | None]]:
        """Return the steps and values of one metric, as far as they are kept."""
        with self._lock:
            curve = self._curves.get(name, _Curve())
            return list(curve.step), list(curve.value)

    def names(self) -> list[str]:
        """Return the names of the metrics that have points."""
        with self._lock:
            return sorted(self._curves)


def _tail(column: list[Any], start: int, stride: int) -> list[Any]:
    """Return every ``stride``-th item from ``start`` on, and always the last one."""
    if stride <= 1:
        return column[start:]
    return column[-1 : start - 1 if start else None : -stride][::-1]


_readers: OrderedDict[str, Reader] = OrderedDict()
_guard = threading.Lock()


def reader(run_id: str) -> Reader:
    """Return the reader of a run that all sessions share."""
    with _guard:
        found = _readers.setdefault(run_id, Reader(run_id))
        _readers.move_to_end(run_id)
        while len(_readers) > _MOST_READERS:
            _readers.popitem(last=False)
        return found
