"""Trials that several workers share: each is held by one, and goes on under its number when that one dies.

A trial carries its holder's token from the record that makes it, so there is no moment at which nobody can say whose it
is. To take, to take over and to tell are done in turn (``leases``): no trial is run by two at once, told twice or made
beyond what was asked for. Trials that other programs run by Optuna itself have no holder and are left to them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from hybridlab.search.database import together
from hybridlab.search.landscape import Landscape, Outcome
from hybridlab.search.leases import Leases
from hybridlab.search.study import REASON, tell

HOLDER = "worker"
"""The trial's attribute that names who runs it, or ran it last; empty where it was given back."""
ATTEMPTS = "attempts"
"""The trial's attribute that counts how often it was begun, where that is more than once."""
MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Tally:
    """How far a study is: trials that have ended, that somebody runs, and that wait for nobody in particular."""

    ended: int
    running: int
    waiting: int

    @property
    def begun(self) -> int:
        """Trials that have ended or are on their way."""
        return self.ended + self.running


def tally(study: Study) -> Tally:
    """Count a study's trials."""
    states = [one.state for one in study.get_trials(deepcopy=False)]
    return Tally(
        sum(state.is_finished() for state in states),
        states.count(TrialState.RUNNING),
        states.count(TrialState.WAITING),
    )


def take(
    study: Study, landscape: Landscape, leases: Leases, most: int, seated: Collection[int] = ()
) -> Trial | None:
    """Return a trial for this worker with a value of every choice; None where there is nothing to begin.

    First what this worker holds and does not run (``seated`` are the numbers that it runs), then what a dead worker or
    one that left has begun, then what waits in the study, then a new one while fewer than ``most`` have begun.
    A trial that has outlived too many workers ends with its reason.

    Raises:
        StoreError: the leases cannot be used.
    """
    with leases.turn():
        trial_id = _taken(study, leases, most, seated)
    if trial_id is None:
        return None
    study._thread_local.cached_all_trials = None  # as study.ask does
    with together(study):
        trial = optuna.Trial(study, trial_id)
        for choice in landscape.space.choices:
            trial.suggest_categorical(choice.name, choice.values)
    return trial


def end(
    study: Study, landscape: Landscape, leases: Leases, trial: Trial, outcome: Outcome
) -> FrozenTrial | None:
    """Tell what a trial gave, once; None where it is not this worker's any more, or was told before.

    Raises:
        StoreError: the leases cannot be used.
    """
    with leases.turn():
        now = study._storage.get_trial(trial._trial_id)
        if now.state.is_finished() or now.user_attrs.get(HOLDER) != leases.token:
            return None
        with together(study):
            return tell(study, landscape, trial, outcome)


def give_back(study: Study, leases: Leases, trial: Trial) -> None:
    """Leave a trial to whoever takes it next; it is not told.

    Raises:
        StoreError: the leases cannot be used.
    """
    with leases.turn():
        now = study._storage.get_trial(trial._trial_id)
        if not now.state.is_finished() and now.user_attrs.get(HOLDER) == leases.token:
            study._storage.set_trial_user_attr(trial._trial_id, HOLDER, "")


def holders(study: Study) -> dict[int, str]:
    """Return who holds each running trial, by number; an empty token stands for nobody."""
    return {
        one.number: str(one.user_attrs[HOLDER])
        for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if HOLDER in one.user_attrs
    }


def _taken(study: Study, leases: Leases, most: int, seated: Collection[int]) -> int | None:
    """Choose a trial, write this worker's name on it, and return its id."""
    storage, token = study._storage, leases.token
    trials = study.get_trials(deepcopy=False)
    ours = [one for one in trials if one.state is TrialState.RUNNING and HOLDER in one.user_attrs]
    for one in ours:
        if one.user_attrs[HOLDER] == token and one.number not in seated:
            return one._trial_id
    others = {str(one.user_attrs[HOLDER]) for one in ours} - {token}
    gone = leases.lapsed(others - {""}) | ({""} & others)
    for one in ours:
        if one.user_attrs[HOLDER] not in gone:
            continue
        attempts = int(one.user_attrs.get(ATTEMPTS, 1))
        if one.user_attrs[HOLDER] and attempts >= MOST_ATTEMPTS:
            storage.set_trial_user_attr(one._trial_id, REASON, f"{attempts} workers died over it")
            storage.set_trial_state_values(one._trial_id, TrialState.FAIL)
            continue
        if one.user_attrs[HOLDER]:
            storage.set_trial_user_attr(one._trial_id, ATTEMPTS, attempts + 1)
        storage.set_trial_user_attr(one._trial_id, HOLDER, token)
        return one._trial_id
    if sum(one.state is not TrialState.WAITING for one in trials) >= most:
        return None
    for one in trials:
        if one.state is TrialState.WAITING:
            storage.set_trial_user_attr(one._trial_id, HOLDER, token)
            if storage.set_trial_state_values(one._trial_id, TrialState.RUNNING):
                return one._trial_id
    made = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={HOLDER: token})
    return storage.create_new_trial(study._study_id, made)
