"""Optuna studies of a landscape: opened, asked, told; a design that cannot be built is mended or ends at once."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GridSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from hybridlab.errors import Problem, RunError, StoreError
from hybridlab.search.cost_aware import REPAIRED
from hybridlab.search.database import Database
from hybridlab.search.journal import Journal
from hybridlab.search.landscape import Landscape, Outcome, within
from hybridlab.search.leases import BUSY_SECONDS, driver_url
from hybridlab.search.space import Codes, Design

ABOUT = "hybridlab"
"""The study's attribute that says of which landscape it is."""
VERSION = 1
"""How studies are written; one of a newer version is refused, since what it says may not be understood."""
NOT_NEAR = "no design near this one can be built"
_SAYS = {"landscape": "name", "fingerprint": "space or task", "objectives": "objectives"}
REASON = "reason"
"""The trial's attribute that says why it has no values, or breaks a limit."""


def open_storage(url: str | Path) -> BaseStorage:
    """Return the storage of a database URL (``sqlite:///…``), or of a journal file, whose folder is made.

    Raises:
        StoreError: it cannot be opened.
    """
    try:
        if isinstance(url, str) and "://" in url:
            lite = url.startswith("sqlite")
            waits = {"connect_args": {"timeout": BUSY_SECONDS}} if lite else {"pool_pre_ping": True}
            return Database(driver_url(url), engine_kwargs=waits)
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(url))
    except Exception as error:  # each driver of a database has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        without = isinstance(error, ImportError) and str(url).startswith("postgres")
        raise StoreError(
            Problem(
                shown_place(url),
                f"the search's storage cannot be opened: {reason}",
                "a file or a URL",
                fix="pip install 'hybridlab[postgres]'" if without else "",
            )
        ) from None


def close(study: Study) -> None:
    """Close a study's connections to its database; it opens new ones when it is used again."""
    storage = getattr(study._storage, "_backend", study._storage)
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def shown_place(place: str | Path) -> str:
    """Return where a storage is, fit to print: without a password."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", str(place))


def open_study(
    landscape: Landscape,
    sampler: BaseSampler,
    *,
    storage: BaseStorage | None = None,
    name: str | None = None,
) -> Study:
    """Return the study of a name, made where there is none; without a storage it is kept in memory.

    Raises:
        RunError: the study of that name is of another space, other objectives or another task, or of a newer version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is not None and name is not None and _exists(storage, name):
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    else:
        directions = [objective.direction for objective in landscape.objectives]
        study = optuna.create_study(
            storage=storage, study_name=name, sampler=sampler, directions=directions
        )
    about = {
        "landscape": landscape.name,
        "fingerprint": landscape.fingerprint,
        "objectives": [objective.name for objective in landscape.objectives],
    }
    kept = study.user_attrs.get(ABOUT)
    check_version(study)
    if kept is None and _fits(study, landscape):
        study.set_user_attr(ABOUT, {**about, "version": VERSION})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.name for objective in landscape.objectives])
        return study
    told = {key: (kept or {}).get(key) for key in about}
    if told != about:
        other = " and ".join(_SAYS[key] for key in about if told[key] != about[key])
        raise RunError(
            Problem(
                str(name),
                f"the study of this name is of another space, task or objectives: its {other}",
                json.dumps(about)[:300],
                json.dumps(told)[:300],
                "give the search another name",
            )
        )
    return study


def check_version(study: Study) -> None:
    """Refuse a study that a newer program wrote.

    Raises:
        RunError: it is one.
    """
    version = dict(study.user_attrs.get(ABOUT) or {}).get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise RunError(
            Problem(
                study.study_name,
                "the study was made by a newer HybridLab",
                f"version {VERSION} or older",
                str(version),
                "update HybridLab, or give the search another name",
            )
        )


def search(
    study: Study,
    landscape: Landscape,
    trials: int,
    *,
    seed: int = 0,
    on_trial: Callable[[int, FrozenTrial], object] = lambda done, trial: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Ask, run and tell until the study holds so many finished trials, counted from what it has, or a grid is done.

    A trial that goes wrong is kept as failed, with its reason; it counts. An interrupted one is kept as failed too.
    """
    finished = sum(one.state.is_finished() for one in study.get_trials(deepcopy=False))
    for done in range(finished + 1, trials + 1):
        if should_stop() or grid_done(study):
            return
        trial = ask(study, landscape)
        row = mended_row(landscape, trial)
        if row is None:
            outcome = Outcome(reason=NOT_NEAR)
        else:
            try:
                outcome = landscape.measure(row, seed)
            except BaseException:
                study.tell(trial, state=TrialState.FAIL)
                raise
        on_trial(done, tell(study, landscape, trial, outcome))


def ask(study: Study, landscape: Landscape) -> Trial:
    """Return a new trial with a value of every choice."""
    return study.ask(dict(landscape.space.distributions()))


def tell(study: Study, landscape: Landscape, trial: Trial, outcome: Outcome) -> FrozenTrial:
    """Keep what a trial gave: values with how far they are over each limit, or the reason why there are none."""
    if outcome.stopped:
        trial.set_user_attr(REASON, outcome.reason)
        return study.tell(trial, state=TrialState.PRUNED)
    if outcome.reason or not all(math.isfinite(value) for value in outcome.values):
        trial.set_user_attr(REASON, outcome.reason or "a value is not finite")
        return study.tell(trial, state=TrialState.FAIL)
    kept = trial.storage.get_trial(trial._trial_id).system_attrs  # of a worker that died telling
    for objective, value in zip(landscape.objectives, outcome.values, strict=True):
        limit = landscape.limits.get(objective.name)
        if limit is not None and f"constraints:{objective.name}" not in kept:
            trial.set_constraint(objective.name, objective.sign * (value - limit))
    return study.tell(trial, outcome.values)


def design_row(landscape: Landscape, design: Design) -> Codes | None:
    """Return a design, mended where it cannot be built, as a row of positions; None where none is near."""
    row = np.asarray(landscape.repaired(landscape.space.codes([design]))[0], dtype=np.int64)
    return None if (row < 0).any() else row


def mended_row(landscape: Landscape, trial: Trial) -> Codes | None:
    """Return a trial's design as a row that can be built, noted on it where it is another one; None: none is near."""
    try:
        row = design_row(landscape, trial.params)
    except (KeyError, ValueError):  # what somebody else put into the study's queue
        return None
    if row is not None and (mended := landscape.space.design(row)) != trial.params:
        trial.set_user_attr(REPAIRED, mended)
    return row


def design_of(trial: FrozenTrial) -> Design:
    """Return the design that a trial ran: the one asked for, or what it was mended to."""
    return dict(trial.user_attrs.get(REPAIRED) or trial.params)


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have values, in their order."""
    return [one for one in study.get_trials(deepcopy=False) if one.state == TrialState.COMPLETE]


def feasible(landscape: Landscape, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that keep every limit."""
    if not trials:
        return []
    met = within(landscape, np.array([one.values for one in trials], dtype=np.float64))
    return [one for one, ok in zip(trials, met, strict=True) if ok]


def grid_size(study: Study) -> int | None:
    """Return how many designs the grid of a study's sampler has; None for another sampler."""
    sampler = study.sampler
    return sampler._n_min_trials if isinstance(sampler, GridSampler) else None


def grid_done(study: Study) -> bool:
    """Say whether the study's sampler is a grid of which every design has been taken."""
    sampler = study.sampler
    return isinstance(sampler, GridSampler) and sampler.is_exhausted(study)


def _fits(study: Study, landscape: Landscape) -> bool:
    """Say whether a study that says nothing of itself, such as one made by Optuna, can become this landscape's."""
    wanted = [objective.direction for objective in landscape.objectives]
    names = {choice.name for choice in landscape.space.choices}
    return [direction.name.lower() for direction in study.directions] == wanted and all(
        set(one.params) <= names for one in study.get_trials(deepcopy=False)
    )


def _exists(storage: BaseStorage, name: str) -> bool:
    return name in optuna.get_all_study_names(storage)
