"""Optuna's storage in a database, which writes what belongs together in one transaction.

The tables are Optuna's own, so the dashboard and Optuna itself read and write the same studies. Optuna commits every
parameter and attribute of a trial by itself; each commit waits for the disk, or for a server, and keeps every other
worker waiting for it. Inside ``together`` a trial's writes are held back and made as few statements of one transaction:
of what a worker writes there either all or nothing is to be seen.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""What inserts a row unless it is there; other databases are written as Optuna does it."""


@dataclass
class _Held:
    """What a trial is still to be written with: parameters as Optuna's tables hold them, and attributes."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    unchecked: set[str] = field(default_factory=set)
    """Parameters of which this process does not know what other trials of the study allow them to be."""
    user: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)


class Database(RDBStorage):
    """A study's tables in SQLite, PostgreSQL or what else Optuna knows."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any] | None = None) -> None:
        """Open the tables at a URL, which are made where there are none."""
        self._here = threading.local()
        super().__init__(url, engine_kwargs=engine_kwargs)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what trials get inside a block at its end, or when one ends; nothing of it if the block raises.

        Raises:
            ValueError: a parameter is not what other trials of the study allow it to be.
            UpdateFinishedTrialError: a trial has ended meanwhile.
            StorageInternalError: the database cannot be written.
        """
        if self.engine.name not in _INSERT or self._holding() is not None:
            yield
            return
        held = self._here.held = {}
        try:
            yield
            for trial_id in list(held):
                self._write(trial_id, held.pop(trial_id))
        finally:
            self._here.held = None

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if self._holding() is None:
            super()._set_trial_param(
                trial_id, param_name, param_value_internal, distribution, previous_distribution
            )
            return
        held = self._held_of(trial_id)
        if previous_distribution is None:
            held.unchecked.add(param_name)
        else:
            check_distribution_compatibility(previous_distribution, distribution)
        held.params[param_name] = param_value_internal, distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Give a trial an attribute."""
        if self._holding() is None:
            super().set_trial_user_attr(trial_id, key, value)
        else:
            self._held_of(trial_id).user[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Give a trial an attribute of Optuna's."""
        if self._holding() is None:
            super().set_trial_system_attr(trial_id, key, value)
        else:
            self._held_of(trial_id).system[key] = value

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change a trial's state, together with all that was held back of it; return whether it was changed."""
        held = (self._holding() or {}).pop(trial_id, None)
        if held is not None and state.is_finished():
            self._write(trial_id, held, state, values)
            return True
        if held is not None:
            self._write(trial_id, held)
        return super().set_trial_state_values(trial_id, state, values)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial, with what was held back of it."""
        return self._shown(super().get_trial(trial_id))

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        found = super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return [self._shown(one) for one in found] if self._holding() else found

    def _holding(self) -> dict[int, _Held] | None:
        """Return what this thread holds back, by trial; None outside of a block."""
        return getattr(self._here, "held", None)

    def _held_of(self, trial_id: int) -> _Held:
        held: dict[int, _Held] = self._here.held
        return held.setdefault(trial_id, _Held())

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        held = (self._holding() or {}).get(trial._trial_id)
        if held is not None:
            for name, (value, distribution) in held.params.items():
                trial.params[name] = distribution.to_external_repr(value)
                trial.distributions[name] = distribution
            trial._user_attrs.update(held.user)
            trial._system_attrs.update(held.system)
        return trial

    def _write(
        self,
        trial_id: int,
        held: _Held,
        state: TrialState | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        """Write what was held back of a trial, and how it ended, in one transaction."""
        with _create_scoped_session(self.scoped_session) as session:
            # (Optuna's models are typed as their columns, not as what a row holds)
            row: Any = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, row.state)
            self._check(session, row.study_id, held)
            rows = [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": value,
                    "distribution_json": distribution_to_json(distribution),
                }
                for name, (value, distribution) in held.params.items()
            ]
            self._insert(session, models.TrialParamModel, rows)
            for model, attributes in (
                (models.TrialUserAttributeModel, held.user),
                (models.TrialSystemAttributeModel, held.system),
            ):
                texts = [
                    {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                    for key, value in attributes.items()
                ]
                self._insert(session, model, texts, "key", "value_json")
            for objective, number in enumerate(values or ()):
                self._set_trial_value_without_commit(session, row, objective, number)
            if state is not None:
                row.state, row.datetime_complete = state, datetime.now()

    def _insert(
        self,
        session: Session,
        model: Any,
        rows: list[dict[str, Any]],
        key: str = "",
        changed: str = "",
    ) -> None:
        """Insert rows in one statement; where a row is there, change one column of it, or leave it as it is."""
        if not rows:
            return
        statement = _INSERT[self.engine.name](model.__table__)
        statement = (
            statement.on_conflict_do_update(
                index_elements=["trial_id", key], set_={changed: statement.excluded[changed]}
            )
            if key
            else statement.on_conflict_do_nothing()
        )
        session.execute(statement, rows)

    def _check(self, session: Session, study_id: int, held: _Held) -> None:
        """Compare parameters with those of other trials, as Optuna does; each process does so once."""
        for name in held.unchecked:
            query = (
                sa.select(models.TrialParamModel.distribution_json)
                .join(models.TrialModel)
                .where(models.TrialModel.study_id == study_id)
                .where(models.TrialParamModel.param_name == name)
                .limit(1)
            )
            before = session.execute(query).scalar()
            if before is not None:
                check_distribution_compatibility(json_to_distribution(before), held.params[name][1])


@contextmanager
def together(study: Study) -> Iterator[None]:
    """Write what a study's trials get inside a block in as few transactions as its storage can."""
    storage = getattr(study._storage, "_backend", study._storage)
    if isinstance(storage, Database):
        with storage.together():
            yield
    else:
        yield
