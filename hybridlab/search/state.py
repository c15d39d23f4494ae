"""A study as a page looks at it: arrays of its trials, its front and its growth, worked out once for each change.

Free of torch, so that a page server can look at a study of thousands of trials while it is worked on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hybridlab.search.description import Description
from hybridlab.search.insight import Coverage
from hybridlab.search.landscape import Array, Objective
from hybridlab.search.record import StudyReader, StudyRecord, TrialRow

VALUED = ("complete", "beyond")
ENDED = (*VALUED, "stopped", "failed")


@dataclass(frozen=True, eq=False)
class StudyState:
    """A study at one moment; the same object is given again until something has changed.

    ``done`` are the places in ``rows`` of trials with values, in the order in which they ended; ``front`` those of them
    that keep all limits and that nobody beats, from the first objective's best on.
    """

    name: str
    about: Description
    objectives: tuple[Objective, ...]
    asked: int
    rows: tuple[TrialRow, ...]
    done: tuple[int, ...]
    front: tuple[int, ...]
    living: int
    """How many workers live."""
    coverages: dict[tuple[float, ...], Coverage] = field(repr=False)

    @cached_property
    def signs(self) -> Array:
        """Factors that make every value one to be made small, (M)."""
        return np.array([one.sign for one in self.objectives])

    @cached_property
    def values(self) -> Array:
        """The values of ``done``, (N, M)."""
        found = [self.rows[at].values for at in self.done]
        return np.array(found, dtype=np.float64).reshape(len(found), len(self.objectives))

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Which of ``done`` keep all limits, (N)."""
        return np.array([self.rows[at].state == "complete" for at in self.done], dtype=bool)

    @cached_property
    def front_values(self) -> Array:
        """The values of ``front``, (K, M)."""
        found = [self.rows[at].values for at in self.front]
        return np.array(found, dtype=np.float64).reshape(len(found), len(self.objectives))

    @property
    def small(self) -> Array:
        """The front's values, each one to be made small, (K, M)."""
        return np.asarray(self.front_values * self.signs, dtype=np.float64)

    def count(self, state: str) -> int:
        """Return how many trials are in a state."""
        return sum(row.state == state for row in self.rows)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(row.state in ENDED for row in self.rows)

    def trace_against(self, reference: tuple[float, ...]) -> tuple[tuple[int, float], ...]:
        """Return what the front covered after so many trials, against values that are to be made small."""
        known = self.coverages.setdefault(reference, Coverage())
        return known.trace(self.values * self.signs, self.feasible, np.array(reference))

    @cached_property
    def trace(self) -> tuple[tuple[int, float], ...]:
        """How much the front covered after so many trials with values, against the worst value of each objective."""
        if not self.done:
            return ()
        worst = (self.values * self.signs).max(axis=0)
        return self.coverages.setdefault((), Coverage()).trace(
            self.values * self.signs, self.feasible, worst
        )


class StudyWatch:
    """A study that is looked at again and again; any number of threads may look."""

    def __init__(self, name: str) -> None:
        """Open a study of this home.

        Raises:
            RunError: there is none, or it does not say which search it is.
            StoreError: its storage cannot be opened.
        """
        self._lock = threading.Lock()
        self._reader = StudyReader(name)
        self._known: set[int] = set()
        self._done: list[int] = []
        self._front: list[int] = []
        self._small = np.empty((0, 0))
        self._coverages: dict[tuple[float, ...], Coverage] = {}
        self._record: StudyRecord | None = None
        self._state: StudyState | None = None

    def look(self) -> StudyState:
        """Return the study as it is now; the same object as before where nothing has changed.

        Raises:
            StoreError: its storage cannot be read.
        """
        with self._lock:
            now, before = self._reader.read(), self._record
            if (
                self._state is None
                or before is None
                or now.trials != before.trials
                or (now.asked, len(now.living)) != (before.asked, len(before.living))
            ):
                self._record, self._state = now, self._made(now)
            return self._state

    def _made(self, record: StudyRecord) -> StudyState:
        objectives = tuple(Objective(**one) for one in record.about.objectives)
        if not self._known:
            self._small = np.empty((0, len(objectives)))
        for at, row in enumerate(record.trials):
            if at not in self._known and row.state in ENDED:
                self._known.add(at)
                if row.state in VALUED:
                    self._done.append(at)
                if row.state == "complete":
                    self._onto_front(at, np.array(row.values) * record.signs)
        order = np.argsort(self._small[:, 0], kind="stable").tolist()
        return StudyState(
            name=record.name,
            about=record.about,
            objectives=objectives,
            asked=record.asked,
            rows=record.trials,
            done=tuple(self._done),
            front=tuple(self._front[at] for at in order),
            living=len(record.living),
            coverages=self._coverages,
        )

    def _onto_front(self, at: int, small_M: Array) -> None:
        """Put a trial on the front unless one there is as good, and take off those that it beats."""
        if np.isnan(small_M).any() or (self._small <= small_M).all(axis=1).any():
            return
        kept = np.asarray(~(small_M <= self._small).all(axis=1))
        self._front = [self._front[int(place)] for place in np.flatnonzero(kept)] + [at]
        self._small = np.vstack((self._small[kept], small_M))
