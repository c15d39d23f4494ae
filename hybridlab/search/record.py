"""A study as a page, a notebook or a report reads it: plain rows, without a landscape and free of torch.

``StudyReader`` is kept open while a study is looked at: it reads only what is new.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hybridlab.search.claims import ATTEMPTS, HOLDER
from hybridlab.search.description import TRIALS, Description, description_of
from hybridlab.search.halving import PRICES, RUNGS
from hybridlab.search.leases import Leases, Worker
from hybridlab.search.pareto import Array, hypervolume, non_dominated
from hybridlab.search.places import opened, place_of
from hybridlab.search.space import Design
from hybridlab.search.study import REASON, close, design_of

RUN = "run"
"""The trial's attribute with its run's ``id`` and ``home``."""
ARCHITECTURE = "architecture"
"""The trial's attribute with the YAML text of what ran."""
TRAINING = "training"
"""The trial's attribute with the settings that its design decided for its training: plan, precision and fusion."""
_PLAN = "plan"
"""Where studies that were made before there was more to decide have the plan."""
State = Literal["waiting", "running", "lost", "complete", "beyond", "stopped", "failed"]
"""``lost``: its worker died and nobody has gone on yet; ``beyond``: a limit is not kept; ``stopped``: by halving."""


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    ``values`` are in the order of the objectives: measured and predicted ones of a trial with values, else the
    predicted ones with None for the measured; empty before the design is priced. ``rungs`` are values of the measured
    objective by step, of trainings cut short too. ``started`` and ``ended`` are seconds since 1970.
    """

    number: int
    state: State
    values: tuple[float | None, ...]
    design: Design
    reason: str
    run: str
    home: str
    architecture: str
    worker: str
    attempts: int
    started: float | None
    ended: float | None
    rungs: dict[int, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Settings that its design decided for its training: plan, precision and fusion, as ``TrainSpec`` has them."""


@dataclass(frozen=True)
class StudyRecord:
    """A study at one moment: what it is, how many trials were asked for, its trials in order, and who works on it."""

    name: str
    about: Description
    asked: int
    trials: tuple[TrialRow, ...]
    workers: tuple[Worker, ...]
    living: frozenset[str]
    """Tokens of the workers that live."""

    @property
    def signs(self) -> Array:
        """Factors that make every objective one to be made small, (M)."""
        down = [one["direction"] == "minimize" for one in self.about.objectives]
        return np.where(down, 1.0, -1.0)

    def numbers(self) -> tuple[NDArray[np.int64], Array]:
        """Return the trials that have all values and keep all limits: their numbers (N) and values (N, M)."""
        rows = [one for one in self.trials if one.state == "complete"]
        values = np.array([one.values for one in rows], dtype=np.float64)
        M = len(self.about.objectives)
        return np.array([one.number for one in rows], dtype=np.int64), values.reshape(len(rows), M)

    def front(self) -> list[int]:
        """Return the numbers of the trials that no other beats, from the first objective's best on."""
        numbers, values = self.numbers()
        small = values * self.signs
        kept = np.flatnonzero(non_dominated(small)) if len(small) else np.empty(0, dtype=int)
        return [int(numbers[at]) for at in kept[np.argsort(small[kept, 0], kind="stable")]]

    def hypervolumes(self) -> tuple[list[int], list[float]]:
        """Return by which trials the front grew, in the order in which they ended, and its hypervolume after each.

        The reference is the worst that any trial reached, so a value is a share of nothing, and only growth tells.
        """
        rows = [one for one in self.trials if one.state == "complete"]
        rows.sort(key=lambda one: (one.ended or 0.0, one.number))
        if not rows:
            return [], []
        small = np.array([one.values for one in rows], dtype=np.float64) * self.signs
        reference = small.max(axis=0)
        front = np.empty((0, small.shape[1]))
        at, volumes = [], []
        for row, point in zip(rows, small, strict=True):
            if (front <= point).all(axis=1).any():
                continue
            front = np.vstack((front[~(point <= front).all(axis=1)], point))
            at.append(row.number)
            volumes.append(hypervolume(front, reference))
        return at, volumes


class StudyReader:
    """A study that is kept open to be read again and again."""

    def __init__(self, name: str, place: str | Path | None = None) -> None:
        """Open a study.

        Raises:
            RunError: there is none of that name, it does not say what it is, or a newer program made it.
            StoreError: its storage cannot be opened.
        """
        where = place or place_of(name)
        self._study = opened(name, where)
        self._about = description_of(self._study)
        self._leases = Leases(where, name)
        self._rows: dict[int, TrialRow] = {}
        self._first: list[TrialRow] = []
        """Rows of the trials before the first one that still runs: they stay as they are."""

    def read(self) -> StudyRecord:
        """Return the study as it stands; rows of trials that have ended are those of before.

        Raises:
            StoreError: its storage cannot be read.
        """
        trials = self._study.get_trials(deepcopy=False)[len(self._first) :]
        holding = {
            str(one.user_attrs.get(HOLDER, "")) for one in trials if one.state is TrialState.RUNNING
        }
        workers = self._leases.workers()
        gone = self._leases.lapsed(set(workers) | (holding - {""})) | {""}
        rows = []
        for one in trials:
            row = self._rows.get(one.number)
            if row is None:
                row = self._row(one, gone)
                if one.state.is_finished():
                    self._rows[one.number] = row
            rows.append(row)
        every = (*self._first, *rows)
        running = (place for place, one in enumerate(trials) if not one.state.is_finished())
        self._first += rows[: next(running, len(rows))]
        return StudyRecord(
            self._study.study_name,
            self._about,
            int(self._study.user_attrs.get(TRIALS, self._about.file.get("trials", 0))),
            every,
            tuple(workers.values()),
            frozenset(set(workers) - gone),
        )

    def close(self) -> None:
        """Close its connections."""
        self._leases.leave()
        close(self._study)

    def _row(self, one: FrozenTrial, gone: set[str]) -> TrialRow:
        run: dict[str, Any] = dict(one.user_attrs.get(RUN) or {})
        values = one.values if one.state is TrialState.COMPLETE else one.user_attrs.get(PRICES)
        return TrialRow(
            number=one.number,
            state=self._state(one, gone),
            values=tuple(values or ()),
            design=design_of(one),
            reason=str(one.user_attrs.get(REASON, "")),
            run=str(run.get("id", "")),
            home=str(run.get("home", "")),
            architecture=str(one.user_attrs.get(ARCHITECTURE, "")),
            worker=str(one.user_attrs.get(HOLDER, "")),
            attempts=int(one.user_attrs.get(ATTEMPTS, 1)),
            started=_seconds(one.datetime_start),
            ended=_seconds(one.datetime_complete),
            rungs={int(step): v for step, v in dict(one.user_attrs.get(RUNGS) or {}).items()},
            training=training_of(one),
        )

    def _state(self, one: FrozenTrial, gone: set[str]) -> State:
        if one.state is TrialState.RUNNING:
            ours = HOLDER in one.user_attrs
            return "lost" if ours and one.user_attrs[HOLDER] in gone else "running"
        if one.state is TrialState.COMPLETE:
            return "beyond" if self._over(one.values) else "complete"
        words: dict[TrialState, State] = {
            TrialState.WAITING: "waiting",
            TrialState.PRUNED: "stopped",
            TrialState.FAIL: "failed",
        }
        return words[one.state]

    def _over(self, values: list[float]) -> bool:
        limits = dict(self._about.file.get("limits") or {})
        for objective, value in zip(self._about.objectives, values, strict=True):
            limit = limits.get(objective["name"])
            sign = 1.0 if objective["direction"] == "minimize" else -1.0
            if limit is not None and sign * value > sign * limit:
                return True
        return False


def training_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the settings that a trial's design decided for its training; empty where it decided none."""
    if plan := trial.user_attrs.get(_PLAN):
        return {"plan": dict(plan)}
    return dict(trial.user_attrs.get(TRAINING) or {})


def _seconds(moment: datetime.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
