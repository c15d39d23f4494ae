"""A design tried once more with other seeds: how far its values lie apart is what they vary by chance."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import TrialState

from hybridlab.errors import Problem, RunError
from hybridlab.search.description import TRIALS, description_of
from hybridlab.search.study import design_of

SEED = "seed"
"""The trial's attribute with the seed it is run with, where that is another than the search's."""


def try_again(study: Study, number: int, times: int) -> None:
    """Queue the design of a trial so many times more, each with a seed that no other trial has, to be run to its end.

    Raises:
        RunError: there is no such trial, it has no values, or the study does not say what it is.
    """
    trials = study.get_trials(deepcopy=False)
    known = {one.number: one for one in trials if one.state is TrialState.COMPLETE}
    if number not in known:
        words = "only a trial that has values can be tried again"
        raise RunError(Problem("trial", words, got=str(number)))
    seed = description_of(study).seed
    for place in range(times):
        more = {SEED: seed + len(trials) + place}
        study.enqueue_trial(design_of(known[number]), user_attrs=more)
    asked = int(study.user_attrs.get(TRIALS, 0))
    study.set_user_attr(TRIALS, max(asked, len(trials)) + times)
