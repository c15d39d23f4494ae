"""What a study holds by now, read as it grows: a finished trial is read once, an unchanged study costs next to nothing.

Free of torch, so that a page server can look at a study of thousands of trials while it is worked on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from hybridlab.search.claims import HOLDER
from hybridlab.search.description import TRIALS, Description, description_of
from hybridlab.search.insight import Coverage
from hybridlab.search.landscape import Array, Objective
from hybridlab.search.places import opened
from hybridlab.search.space import Design
from hybridlab.search.study import REASON, design_of

_RUN, _ARCHITECTURE = "run", "architecture"
_STATES = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}


@dataclass(frozen=True)
class TrialRow:
    """One trial: ``state`` is done, stopped (halving), failed, running or waiting; times are seconds since 1970."""

    number: int
    state: str
    values: tuple[float, ...]
    design: Design
    reason: str
    run: str
    worker: str
    began: float | None
    ended: float | None
    steps: int
    architecture: str


@dataclass(frozen=True, eq=False)
class StudyState:
    """A study at one moment; the same object is given again until something has changed.

    ``done`` are the places in ``rows`` of trials with values, in the order in which they ended; ``front`` those of them
    that keep all limits and that nobody beats, from the first objective's best on.
    """

    name: str
    about: Description
    objectives: tuple[Objective, ...]
    limits: dict[str, float]
    asked: int
    rows: tuple[TrialRow, ...]
    done: tuple[int, ...]
    front: tuple[int, ...]
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
        return np.array([self.keeps(self.rows[at].values) for at in self.done], dtype=bool)

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
        return sum(row.state in _STATES.values() for row in self.rows)

    def keeps(self, values: tuple[float, ...]) -> bool:
        """Say whether values keep all limits."""
        return all(
            not one.sign * value > one.sign * self.limits.get(one.name, one.sign * np.inf)
            for one, value in zip(self.objectives, values, strict=True)
        )

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


class StudyReader:
    """Reads one study; any number of threads may look."""

    def __init__(self, name: str) -> None:
        """Open a study of this home.

        Raises:
            RunError: there is none, or it does not say which search it is.
            StoreError: its storage cannot be opened.
        """
        self._lock = threading.Lock()
        self._study = opened(name)
        self._about = description_of(self._study)
        spec = self._about.spec
        self._limits = dict(spec.limits)
        self._objectives = tuple(Objective(**one) for one in self._about.objectives)
        self._asked = spec.trials
        self._rows: list[TrialRow] = []
        self._open: set[int] = set()
        self._done: list[int] = []
        self._front: list[int] = []
        self._small = np.empty((0, len(self._objectives)))
        self._coverages: dict[tuple[float, ...], Coverage] = {}
        self._state: StudyState | None = None

    def look(self) -> StudyState:
        """Return the study as it is now."""
        with self._lock:
            asked = self._study._storage.get_study_user_attrs(self._study._study_id).get(TRIALS)
            changed = self._take(self._study.get_trials(deepcopy=False))
            asked = int(asked or self._about.spec.trials)
            if self._state is None or changed or asked != self._asked:
                self._asked = asked
                self._state = self._made()
            return self._state

    def _made(self) -> StudyState:
        order = np.argsort(self._small[:, 0], kind="stable").tolist()
        return StudyState(
            name=self._study.study_name,
            about=self._about,
            objectives=self._objectives,
            limits=self._limits,
            asked=self._asked,
            rows=tuple(self._rows),
            done=tuple(self._done),
            front=tuple(self._front[at] for at in order),
            coverages=self._coverages,
        )

    def _take(self, trials: list[FrozenTrial]) -> bool:
        """Read what is new or had not ended; say whether anything is another than before."""
        changed = len(trials) > len(self._rows)
        places = [*sorted(self._open), *range(len(self._rows), len(trials))]
        for at in places:
            row = _row(trials[at])
            if at < len(self._rows):
                changed |= row != self._rows[at]
                self._rows[at] = row
            else:
                self._rows.append(row)
            if row.state in _STATES.values():
                self._open.discard(at)
                if row.values:
                    self._done.append(at)
                    self._onto_front(at, row)
            else:
                self._open.add(at)
        return changed

    def _onto_front(self, at: int, row: TrialRow) -> None:
        """Put a trial on the front unless one there is as good, and take off those that it beats."""
        for one, value in zip(self._objectives, row.values, strict=True):
            limit = self._limits.get(one.name)
            if limit is not None and one.sign * value > one.sign * limit:
                return
        small = np.array(row.values) * [one.sign for one in self._objectives]
        if np.isnan(small).any() or (self._small <= small).all(axis=1).any():
            return
        kept = np.asarray(~(small <= self._small).all(axis=1)).tolist()
        self._front = [place for place, stays in zip(self._front, kept, strict=True) if stays]
        self._front.append(at)
        self._small = np.vstack((self._small[np.array(kept, dtype=bool)], small))


def _row(trial: FrozenTrial) -> TrialRow:
    told: dict[str, Any] = trial.user_attrs
    run = told.get(_RUN)
    state = trial.state.name
    began, ended = trial.datetime_start, trial.datetime_complete
    return TrialRow(
        number=trial.number,
        state=_STATES.get(state, state.lower()),
        values=tuple(map(float, trial.values)) if state == "COMPLETE" else (),
        design=design_of(trial),
        reason=str(told.get(REASON, "")),
        run=str(run.get("id", "")) if isinstance(run, dict) else "",
        worker=str(told.get(HOLDER, "")),
        began=began.timestamp() if began else None,
        ended=ended.timestamp() if ended else None,
        steps=max(trial.intermediate_values, default=0),
        architecture=str(told.get(_ARCHITECTURE, "")),
    )
